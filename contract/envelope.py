"""Is it authentic? Opens what a gateway has sealed and checks what it has signed; of the topic's own gateway alone."""

import base64
import json

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite


class Opener:
    """Opens with the brain's private key (PEM) what gateways with certificates of an authority (PEM) seal."""

    def __init__(self, private: bytes, authority: bytes) -> None:
        self.private = serialization.load_pem_private_key(private, None)
        self.authority = x509.load_pem_x509_certificate(authority)
        self.keys: dict = {}  # kid → (gateway, content key)

    def signer(self, message: bytes, context: str, detached: bytes | None = None) -> tuple[str, bytes]:
        """Return who signed a COSE_Sign1, by the common name of the certificate in it, and the payload."""
        protected, _, payload, signature = cbor2.loads(message).value
        payload = payload if detached is None else detached
        certificate = x509.load_der_x509_certificate(cbor2.loads(protected)[33])
        certificate.verify_directly_issued_by(self.authority)
        pair = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
        signed = cbor2.dumps(["Signature1", protected, context.encode(), payload])
        certificate.public_key().verify(utils.encode_dss_signature(*pair), signed, ec.ECDSA(hashes.SHA256()))
        return certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value, payload

    def learn(self, topic: str, message: bytes) -> None:
        """Take in an announcement: signed by the gateway, the content key sealed to ours with HPKE."""
        name, payload = self.signer(message, topic)
        facts = json.loads(payload)
        assert (topic, name) == (f"v1/{facts['gateway']}/key", facts["gateway"]), "announced by somebody else"
        bound = [facts["gateway"], facts["kid"], facts["alg"], facts["salt"], facts.get("signing")]
        info = b"yulink v1 key " + json.dumps(bound, separators=(",", ":")).encode()
        sealed = next(base64.b64decode(each["sealed"]) for each in facts["recipients"] if each["kem"] == "X25519")
        suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
        self.keys[bytes.fromhex(facts["kid"])] = name, suite.decrypt(sealed, self.private, info)

    def open(self, topic: str, message: bytes) -> bytes:
        """Return what a COSE_Encrypt0 holds; of a gateway that has announced no key, the message as it is."""
        if not any(topic.startswith(f"v1/{gateway}/") for gateway, _ in self.keys.values()):
            return message
        protected, unprotected, sealed = cbor2.loads(message).value
        gateway, key = self.keys[cbor2.loads(protected)[4]]
        assert topic.startswith(f"v1/{gateway}/"), "moved to another topic"
        return AESGCM(key).decrypt(unprotected[5], sealed, cbor2.dumps(["Encrypt0", protected, topic.encode()]))
