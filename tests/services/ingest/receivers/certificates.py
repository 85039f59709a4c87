"""Certificates for the tests of TLS ports: a CA, a server of this machine, and a client."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

CLIENT_NAME = "switch-7.example"
_USES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


@dataclass(frozen=True)
class Certificates:
    """Paths of PEM files."""

    ca: str
    server: str
    server_key: str
    client: str
    client_key: str


def make_certificates(folder: Path) -> Certificates:
    """Writes fresh certificates."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = _sign("tests", ca_key, ca_key, "tests", ca=True)
    paths = {"ca": _write(folder / "ca.pem", ca.public_bytes(serialization.Encoding.PEM))}
    for name, subject in ("server", "127.0.0.1"), ("client", CLIENT_NAME):
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _sign(subject, key, ca_key, "tests", ca=False)
        paths[name] = _write(folder / f"{name}.pem", certificate.public_bytes(serialization.Encoding.PEM))
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        paths[f"{name}_key"] = _write(folder / f"{name}.key", private)
    return Certificates(**paths)


def _write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def _sign(subject: str, key: ec.EllipticCurvePrivateKey, issuer_key: ec.EllipticCurvePrivateKey, issuer: str, *, ca: bool) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if ca:
        usage = dict.fromkeys(_USES, False) | {"key_cert_sign": True}
        builder = builder.add_extension(x509.KeyUsage(**usage), critical=True)
    else:
        name = x509.IPAddress(ip_address(subject)) if subject[0].isdigit() else x509.DNSName(subject)
        builder = builder.add_extension(x509.SubjectAlternativeName([name]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())
