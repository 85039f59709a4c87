"""Texts and severities of SAP security audit messages (table of SE92), for the ids that audit policies ask for.

Texts and weights follow the list in the public documentation of Microsoft Sentinel for SAP; what it lacks
(AU4, AUC, AUH, AUL, AUN, AUS, AUU, AUX) follows SAP's own event definition list. `&A` … `&F` are the variables of the record.
Severity: a refused or failed action is WARN, a change that opens the system (debugging, audit switched off) is ERROR.
"""

from __future__ import annotations

from typing import Final

from services.ingest.severity import ERROR, INFO, NOTICE, WARN

MESSAGES: Final[dict[str, tuple[str, int]]] = {
    "AU1": ("Logon successful (type=&A, method=&C)", INFO),
    "AU2": ("Logon failed (reason=&B, type=&A, method=&C)", WARN),
    "AU3": ("Transaction &A started", INFO),
    "AU4": ("Start of transaction &A failed (reason=&B)", WARN),
    "AU5": ("RFC/CPIC logon successful (type=&A, method=&C)", INFO),
    "AU6": ("RFC/CPIC logon failed, reason=&B, type=&A, method=&C", WARN),
    "AU7": ("User &A created", NOTICE),
    "AU8": ("User &A deleted", NOTICE),
    "AU9": ("User &A locked", NOTICE),
    "AUA": ("User &A unlocked", NOTICE),
    "AUB": ("Authorizations for user &A changed", NOTICE),
    "AUC": ("User logoff", INFO),
    "AUD": ("User master record &A changed", NOTICE),
    "AUE": ("Audit configuration changed", WARN),
    "AUF": ("Audit: Slot &A: Class &B, Severity &C, User &D, Client &E, &F", NOTICE),
    "AUG": ("Application server started", NOTICE),
    "AUH": ("Application server stopped", WARN),
    "AUI": ("Audit: Slot &A Inactive", WARN),
    "AUJ": ("Audit: Active status set to &A", WARN),
    "AUK": ("Successful RFC call &C (function group = &A)", INFO),
    "AUL": ("Failed RFC call &C (function group = &A)", WARN),
    "AUM": ("User &B locked in client &A after errors in password checks", ERROR),
    "AUN": ("User &B in client &A unlocked after being locked due to invalid password entered", NOTICE),
    "AUO": ("Logon failed (reason = &B, type = &A)", WARN),
    "AUP": ("Transaction &A locked", NOTICE),
    "AUQ": ("Transaction &A unlocked", NOTICE),
    "AUR": ("&A &B created", NOTICE),
    "AUS": ("&A &B deleted", NOTICE),
    "AUT": ("&A &B changed", NOTICE),
    "AUU": ("&A &B activated", NOTICE),
    "AUW": ("Report &A started", INFO),
    "AUX": ("Start of report &A failed (reason = &B)", WARN),
    "AUY": ("Download &A Bytes to File &C", NOTICE),
    "BU1": ("Password check failed for user &B in client &A", WARN),
    "BU2": ("Password changed for user &B in client &A", NOTICE),
    "BU4": ("Dynamic ABAP code: Event &A, event type &B, check total &C", NOTICE),
    "BUG": ("HTTP Security Session Management was deactivated for client &A", ERROR),
    "BUI": ("SPNego replay attack detected (UPN=&A)", ERROR),
    "BUV": ("Invalid hash value &A. The context contains &B", ERROR),
    "BUW": ("A refresh token issued to client &A was used by client &B", ERROR),
    "CUK": ("C debugging activated", ERROR),
    "CUL": ("Field content in debugger changed by user &A: &B (&C)", ERROR),
    "CUM": ("Jump to ABAP Debugger by user &A: &B (&C)", ERROR),
    "CUN": ("A process was stopped from the debugger by user &A (&C)", ERROR),
    "CUO": ("Explicit database operation in debugger by user &A: &B (&C)", ERROR),
    "CUP": ("Non-exclusive debugging session started by user &A (&C)", ERROR),
    "CUS": ("Logical file name &B is not a valid alias for logical file name &A", WARN),
    "CUZ": ("Generic table access by RFC to &A with activity &B", WARN),
    "DU1": ("FTP server allowlist is empty", WARN),
    "DU2": ("FTP server allowlist is non-secure due to use of placeholders", WARN),
    "DU8": ("FTP connection request for server &A successful", INFO),
    "DU9": ("Generic table access call to &A with activity &B (auth. check: &C )", INFO),
    "DUH": ("OAuth 2.0: Token declared invalid (OAuth client=&A, user=&B, token type=&C)", WARN),
    "EU1": ("System change options changed ( &A to &B )", WARN),
    "EU2": ("Client &A settings changed ( &B )", WARN),
    "EUF": ("Could not call RFC function module &A", WARN),
    "FU0": ("Exclusive security audit log medium changed (new status &A)", WARN),
    "FU1": ("RFC function &B with dynamic destination &C was called in program &A", INFO),
}
"""Text with placeholders and severity number by message id."""
