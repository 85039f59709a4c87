"""The landscape that `elis simulate` plays: infrastructure, SAP and an order application, with one planted fault."""
