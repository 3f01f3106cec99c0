// Does the gateway's account close? Checks what it tells, hour by hour and device by device, under its signature.
import assert from "node:assert";

// The line of the ledger in an event of the kind `ledger`.
export function ledger(gateway, event, opener) {
  const facts = JSON.parse(event.facts_json);
  const line = JSON.parse(facts.line);
  const signature = Buffer.from(facts.signature, "base64");
  const [name] = opener.signer(signature, `v1/${gateway}/ledger`, Buffer.from(facts.line));
  assert(name === gateway && line.gateway === gateway, "signed by somebody else");
  assert(line.read === line.filtered + line.stored, "the sums do not close");
  for (const way of Object.values(line.uplinks)) {
    const settled = Object.values(way.dropped).reduce((sum, each) => sum + each, way.withheld + way.committed);
    assert(settled <= line.stored, "the sums do not close");
  }
  return line;
}
