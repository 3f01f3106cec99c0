// Is it authentic? Opens what a gateway has sealed and checks what it has signed; of the topic's own gateway alone.
import assert from "node:assert";
import { createDecipheriv, createPrivateKey, verify, X509Certificate } from "node:crypto";
import { Aes256Gcm, CipherSuite, DhkemX25519HkdfSha256, HkdfSha256 } from "@hpke/core";
import { decode, encode } from "cbor2";

const suite = new CipherSuite({ kem: new DhkemX25519HkdfSha256(), kdf: new HkdfSha256(), aead: new Aes256Gcm() });
const parts = (message) => decode(message).contents;
const cbor = (items) => Buffer.from(encode(items.map((each) => (typeof each === "string" ? each : new Uint8Array(each)))));

// Opens with the brain's private key (PEM) what gateways with certificates of an authority (PEM) seal.
export class Opener {
  constructor(privateKey, authority) {
    this.jwk = { ...createPrivateKey(privateKey).export({ format: "jwk" }), key_ops: ["deriveBits"] };
    this.authority = new X509Certificate(authority);
    this.keys = new Map(); // kid → [gateway, content key]
  }

  // Who signed a COSE_Sign1, by the common name of the certificate in it, and the payload.
  signer(message, context, detached) {
    const [header, , inside, signature] = parts(message);
    const payload = detached ?? inside;
    const certificate = new X509Certificate(Buffer.from(decode(header).get(33)));
    assert(certificate.verify(this.authority.publicKey), "not of our authority");
    const signed = cbor(["Signature1", header, Buffer.from(context), payload]);
    assert(verify("sha256", signed, { key: certificate.publicKey, dsaEncoding: "ieee-p1363" }, signature), "forged");
    return [certificate.subject.replace(/^CN=/, ""), Buffer.from(payload)];
  }

  // Takes in an announcement: signed by the gateway, the content key sealed to ours with HPKE.
  async learn(topic, message) {
    const [name, payload] = this.signer(message, topic);
    const facts = JSON.parse(payload);
    assert(topic === `v1/${facts.gateway}/key` && name === facts.gateway, "announced by somebody else");
    const bound = [facts.gateway, facts.kid, facts.alg, facts.salt, facts.signing ?? null];
    const info = new Uint8Array(Buffer.from("yulink v1 key " + JSON.stringify(bound))).buffer;
    const sealed = new Uint8Array(Buffer.from(facts.recipients.find((each) => each.kem === "X25519").sealed, "base64"));
    const recipientKey = await suite.kem.importKey("jwk", this.jwk, false);
    const key = await suite.open({ recipientKey, enc: sealed.slice(0, 32).buffer, info }, sealed.slice(32).buffer);
    this.keys.set(facts.kid, [name, Buffer.from(key)]);
  }

  // What a COSE_Encrypt0 holds; of a gateway that has announced no key, the message as it is.
  open(topic, message) {
    if (![...this.keys.values()].some(([gateway]) => topic.startsWith(`v1/${gateway}/`))) return message;
    const [header, unprotected, sealed] = parts(message);
    const [gateway, key] = this.keys.get(Buffer.from(decode(header).get(4)).toString("hex"));
    assert(topic.startsWith(`v1/${gateway}/`), "moved to another topic");
    const cipher = createDecipheriv("aes-256-gcm", key, unprotected.get(5), { authTagLength: 16 });
    cipher.setAAD(cbor(["Encrypt0", header, Buffer.from(topic)]));
    cipher.setAuthTag(sealed.slice(-16));
    return Buffer.concat([cipher.update(sealed.slice(0, -16)), cipher.final()]);
  }
}
