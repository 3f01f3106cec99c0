// Reads messages of Yulink gateways and proves that none is missing, with stock libraries and nothing of the gateway.
//   npm install && node verify.mjs v1/golden      (brain.key, ca.pem, index.json and the messages)
// Prints one JSON object a reading, line of the ledger or health message, then what is missing. Exit 1 when something
// is, or is not authentic.
import assert from "node:assert";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { decompress } from "fzstd";
import Long from "long";
import protobuf from "protobufjs";
import { Opener } from "./envelope.mjs";
import { ledger } from "./ledger.mjs";
import { readings } from "./readings.mjs";

protobuf.util.Long = Long;
protobuf.configure();
const file = (name) => readFileSync(join(process.argv[2], name));
const proto = new protobuf.Root().loadSync(join(import.meta.dirname, "v1/batch.proto"), { keepCase: true });
const [Batch, Catalogue] = ["yulink.v1.Batch", "yulink.v1.Catalogue"].map((name) => proto.lookupType(name));
const opener = new Opener(file("brain.key"), file("ca.pem"));
const tags = new Map(); // "gateway id" → [device, tag]
// "gateway epoch seq" that came; that come in parts; that will not come
const [here, parted, gone] = [new Set(), new Set(), new Set()];

// Whether to store what a batch holds: not a resend, a whole after its parts, or a part of a whole.
function isNew(batch) {
  const number = `${batch.gateway} ${batch.epoch} ${batch.seq}`;
  if (here.has(number) || parted.has(number)) return false;
  here.add(number);
  const wholes = numbers(batch.gateway, batch.instead_of);
  for (const each of wholes) parted.add(each);
  for (const each of numbers(batch.gateway, batch.gone)) gone.add(each);
  return !wholes.some((each) => here.has(each));
}

const numbers = (gateway, ranges) =>
  ranges.flatMap(({ epoch, first, last }) =>
    Array.from({ length: last - first + 1 }, (_, k) => `${gateway} ${epoch} ${Number(first) + k}`),
  );

// The numbers without a message, below the highest of each epoch.
function missing() {
  const settled = new Set([...here, ...parted, ...gone]);
  const highest = {};
  for (const number of settled) {
    const [gateway, epoch, seq] = number.split(" ");
    highest[`${gateway} ${epoch}`] = Math.max(highest[`${gateway} ${epoch}`] ?? 0, seq);
  }
  const absent = (epoch, last) =>
    Array.from({ length: last }, (_, k) => k + 1).filter((seq) => !settled.has(`${epoch} ${seq}`));
  return Object.fromEntries(Object.entries(highest).map(([epoch, last]) => [epoch, absent(epoch, last)]));
}

// Yields what a message tells that is new, as JSON. It may speak of the gateway of its topic alone.
function* contents(topic, plain) {
  const [, tenant, site, kind] = topic.split("/");
  const message =
    kind === "health" ? JSON.parse(plain) : (kind === "catalog" ? Catalogue : Batch).decode(decompress(plain));
  assert(message.gateway === `${tenant}/${site}`, "of another gateway");
  if (kind === "health") yield JSON.stringify({ health: message });
  else if (kind === "catalog") {
    for (const tag of message.tags) tags.set(`${message.gateway} ${tag.id}`, [message.device, tag]);
  } else if (isNew(message)) {
    for (const event of message.events)
      if (event.kind === "ledger") yield JSON.stringify({ ledger: ledger(message.gateway, event, opener) });
    for (const [device, tag, ts, value, quality, revision] of readings(message, tags)) {
      const shown = typeof value === "bigint" ? value : JSON.stringify(value); // NaN becomes null
      const names = `"device": ${JSON.stringify(device)}, "tag": ${JSON.stringify(tag.name)}`;
      const unit = JSON.stringify(tag.unit);
      const worth = `"quality": ${quality}, "revision": ${revision}, "seq": ${message.seq}`;
      yield `{${names}, "ts": ${ts}, "value": ${shown}, "unit": ${unit}, ${worth}}`;
    }
  }
}

for (const { topic, file: name } of JSON.parse(file("index.json"))) {
  if (topic.endsWith("/key")) await opener.learn(topic, file(name));
  else for (const told of contents(topic, opener.open(topic, file(name)))) console.log(told);
}
console.log(JSON.stringify({ missing: missing() }));
process.exitCode = Object.values(missing()).some((each) => each.length) ? 1 : 0;
