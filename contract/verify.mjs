// Opens messages of Yulink gateways and proves that none is missing, with stock libraries and nothing of the gateway.
//   npm install && node verify.mjs v1/golden      (brain.key, ca.pem, index.json and the messages)
// Prints one JSON object a reading, line of the ledger or health message, then what is missing. Exit 1 when something is, or is not authentic.
import assert from "node:assert";
import { createDecipheriv, createPrivateKey, verify, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Aes256Gcm, CipherSuite, DhkemX25519HkdfSha256, HkdfSha256 } from "@hpke/core";
import { decode, encode } from "cbor2";
import { decompress } from "fzstd";
import protobuf from "protobufjs";
import Long from "long";

protobuf.util.Long = Long;
protobuf.configure();
const folder = process.argv[2];
const file = (name) => readFileSync(join(folder, name));
const proto = new protobuf.Root().loadSync(join(import.meta.dirname, "v1/batch.proto"), { keepCase: true });
const [Batch, Catalogue] = ["yulink.v1.Batch", "yulink.v1.Catalogue"].map((name) => proto.lookupType(name));
const suite = new CipherSuite({ kem: new DhkemX25519HkdfSha256(), kdf: new HkdfSha256(), aead: new Aes256Gcm() });
const jwk = createPrivateKey(file("brain.key")).export({ format: "jwk" });
const privateKey = await suite.kem.importKey("jwk", { ...jwk, key_ops: ["deriveBits"] }, false);
const authority = new X509Certificate(file("ca.pem"));
const [keys, tags] = [new Map(), new Map()];
const [seen, parted, gone] = [new Map(), new Map(), new Map()]; // epoch → numbers that came; come in parts; will not come
const hex = (bytes) => Buffer.from(bytes).toString("hex");
const parts = (message) => decode(message).contents;
const int = (number) => BigInt(number.toString());

// Who signed a COSE_Sign1, by the subject of a certificate of our authority, and the payload.
function signer(message, context, detached) {
  const [header, , inside, signature] = parts(message);
  const payload = detached ?? inside;
  const certificate = new X509Certificate(Buffer.from(decode(header).get(33)));
  assert(certificate.verify(authority.publicKey), "not of our authority");
  const signed = Buffer.from(encode(["Signature1", header, Buffer.from(context), payload].map(bytes)));
  assert(verify("sha256", signed, { key: certificate.publicKey, dsaEncoding: "ieee-p1363" }, signature), "forged");
  return [certificate.subject, payload];
}

// The line of the ledger in an event: the gateway signed it, and its sums close.
function ledger(gateway, event) {
  const facts = JSON.parse(event.facts_json);
  const line = JSON.parse(facts.line);
  const [name] = signer(Buffer.from(facts.signature, "base64"), `v1/${gateway}/ledger`, Buffer.from(facts.line));
  assert(name === `CN=${gateway}` && line.gateway === gateway, "signed by somebody else");
  assert(line.read === line.filtered + line.stored, "the sums do not close");
  for (const way of Object.values(line.uplinks)) {
    const gone = Object.values(way.dropped).reduce((all, each) => all + each, 0);
    assert(way.committed + gone + way.withheld <= line.stored, "the sums do not close");
  }
  return line;
}

// An announcement: COSE_Sign1 by the gateway's certificate, the content key sealed to ours with HPKE.
async function learn(topic, message) {
  const [name, payload] = signer(message, topic);
  const facts = JSON.parse(Buffer.from(payload).toString());
  assert(topic === `v1/${facts.gateway}/key` && name === `CN=${facts.gateway}`, "not its own key");
  const bound = [facts.gateway, facts.kid, facts.alg, facts.salt, facts.signing ?? null];
  const sealed = Buffer.from(facts.recipients.find((each) => each.kem === "X25519").sealed, "base64");
  const info = new Uint8Array(Buffer.from("yulink v1 key " + JSON.stringify(bound)));
  const [enc, text] = [sealed.subarray(0, 32), sealed.subarray(32)].map((part) => new Uint8Array(part));
  const key = await suite.open({ recipientKey: privateKey, enc: enc.buffer, info: info.buffer }, text.buffer);
  keys.set(facts.kid, [facts.gateway, Buffer.from(key)]);
}
const bytes = (each) => (typeof each === "string" ? each : new Uint8Array(each));

// What a COSE_Encrypt0 holds; what is not sealed as it is.
function opened(topic, message) {
  if (message[0] === 0xd0) {
    const [header, unprotected, sealed] = parts(message);
    const [gateway, key] = keys.get(hex(decode(header).get(4)));
    assert(topic.startsWith(`v1/${gateway}/`), "moved to another topic");
    const cipher = createDecipheriv("aes-256-gcm", key, unprotected.get(5));
    cipher.setAAD(Buffer.from(encode(["Encrypt0", header, Buffer.from(topic)].map(bytes))));
    cipher.setAuthTag(sealed.slice(-16));
    message = Buffer.concat([cipher.update(sealed.slice(0, -16)), cipher.final()]);
  }
  return message;
}

// The numbers in ranges, as [epoch, seq] each.
const numbers = (gateway, ranges) =>
  ranges.flatMap(({ epoch, first, last }) =>
    Array.from({ length: Number(last) - Number(first) + 1 }, (_, k) => [`${gateway} ${epoch}`, Number(first) + k]),
  );
const has = (map, [epoch, seq]) => map.get(epoch)?.has(seq) ?? false;
const add = (map, [epoch, seq]) => (map.get(epoch) ?? map.set(epoch, new Set()).get(epoch)).add(seq);

const sums = (line) => line.reduce((all, each) => [...all, BigInt.asIntN(64, (all.at(-1) ?? 0n) + each)], []);
const cut = (column, line, n) => column.slice(line * n, line * n + n);

// [device, tag, ts, value, quality] of each reading of a table.
function* readings(batch, table) {
  const n = table.rows;
  const ids = sums(table.tags.map(int));
  const codes = table.quality.flatMap((run) => Array(run.count).fill(run.code));
  const used = { integers: 0, singles: 0, doubles: 0 };
  for (const [line, form] of table.forms.entries()) {
    const own = table.times.length > n ? line : 0;
    let times = cut(table.times, own, n).map(int);
    if (table.paces.length) {
      times = times.map((off, k) => int(table.starts[own]) + BigInt(k) * int(table.paces[own]) + off);
    } else times = sums([times[0], ...sums(times.slice(1))]);
    const column = { 32: "singles", 64: "doubles" }[form] ?? "integers";
    let values = cut(table[column], used[column]++, n);
    const [device, tag] = tags.get(`${batch.gateway} ${ids[line]}`);
    if (column === "integers") {
      values = sums(values.map(int));
      if (form === 100) values = values.map((place) => batch.texts[Number(place)]);
      else if (tag.kind === 4) values = values.map((value) => Number(value) / 10 ** form);
      else if (tag.kind === 3) values = values.map((value) => BigInt.asUintN(64, value));
      else if (tag.kind === 1) values = values.map((value) => value === 1n);
    }
    const unit = int(table.time_unit);
    for (let k = 0; k < n; k++) yield [device, tag, times[k] * unit, values[k], codes[line * n + k]];
  }
}
const json = (value) =>
  typeof value === "bigint" ? `${value}` : typeof value === "number" ? (isFinite(value) ? `${value}` : "null") : JSON.stringify(value);

for (const { topic, file: name } of JSON.parse(file("index.json"))) {
  const kind = topic.split("/")[3];
  if (kind === "key") await learn(topic, file(name));
  else if (kind === "catalog") {
    const catalogue = Catalogue.decode(decompress(opened(topic, file(name))));
    for (const tag of catalogue.tags) tags.set(`${catalogue.gateway} ${tag.id}`, [catalogue.device, tag]);
  } else if (kind === "health") {
    const health = JSON.parse(Buffer.from(opened(topic, file(name))).toString());
    assert(topic === `v1/${health.gateway}/health`, "moved to another topic");
    console.log(JSON.stringify({ health }));
  } else {
    const batch = Batch.decode(decompress(opened(topic, file(name))));
    assert(topic.startsWith(`v1/${batch.gateway}/`), "moved to another topic");
    const epoch = `${batch.gateway} ${batch.epoch}`;
    const seq = Number(batch.seq);
    // A resend, or a whole after its parts: store nothing of it, acknowledge again.
    if (has(seen, [epoch, seq]) || has(parted, [epoch, seq])) continue;
    add(seen, [epoch, seq]);
    const [wholes, lost] = [batch.instead_of, batch.gone].map((ranges) => numbers(batch.gateway, ranges));
    const isHere = wholes.some((each) => has(seen, each));
    for (const each of wholes) add(parted, each);
    for (const each of [...wholes, ...lost]) add(gone, each);
    if (isHere) continue; // a part of what came whole
    for (const event of batch.events)
      if (event.kind === "ledger") console.log(JSON.stringify({ ledger: ledger(batch.gateway, event) }));
    for (const table of batch.tables)
      for (const [device, tag, ts, value, quality] of readings(batch, table))
        console.log(
          `{"device": ${json(device)}, "tag": ${json(tag.name)}, "ts": ${ts}, "value": ${json(value)}, ` +
            `"unit": ${json(tag.unit)}, "quality": ${quality}, "seq": ${batch.seq}}`,
        );
  }
}
const missing = {};
for (const epoch of new Set([...seen.keys(), ...gone.keys()])) {
  const settled = new Set([...(seen.get(epoch) ?? []), ...(gone.get(epoch) ?? [])]);
  missing[epoch] = [];
  for (let seq = 1; seq < Math.max(...settled); seq++) if (!settled.has(seq)) missing[epoch].push(seq);
}
console.log(JSON.stringify({ missing }));
process.exitCode = Object.values(missing).some((each) => each.length) ? 1 : 0;
