// Checks the AsyncAPI document with its official parser, and JSON documents against the schemas. Prints every problem.
// usage: node check.mjs asyncapi.yaml, or node check.mjs SCHEMA DOCUMENT…
import { readFileSync } from "node:fs";
import parser from "@asyncapi/parser";
import Ajv2020 from "ajv/dist/2020.js";

const { Parser, fromFile } = parser;
const [first, ...documents] = process.argv.slice(2);
let problems = [];
if (first.endsWith(".yaml")) {
  const { document, diagnostics } = await fromFile(new Parser(), first).parse();
  problems = diagnostics.filter((each) => each.severity === 0).map((each) => `${each.path.join(".")}: ${each.message}`);
  if (!document && !problems.length) problems.push("not parsed");
  if (document) console.log(document.allChannels().all().map((channel) => channel.address()).join("\n"));
} else {
  const validate = new Ajv2020.default({ strict: true, strictTuples: true }).compile(JSON.parse(readFileSync(first)));
  for (const name of documents) {
    if (!validate(JSON.parse(readFileSync(name)))) problems.push(`${name}: ${JSON.stringify(validate.errors)}`);
  }
}
for (const each of problems) console.error(each);
process.exitCode = problems.length ? 1 : 0;
