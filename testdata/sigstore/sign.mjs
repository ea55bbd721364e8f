// Signs a statement with a key of P-256, and writes the bundle with Sigstore's own packages.
// usage: node sign.mjs NODE_MODULES KEY STATEMENT; prints the bundle.
import { createHash, createPrivateKey, createPublicKey, sign } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [modules, keyFile, statementFile] = process.argv.slice(2);
const require = createRequire(`${modules}/index.js`);
const { bundleToJSON, toDSSEBundle } = require("@sigstore/bundle");
const { dsse } = require("@sigstore/core");

const key = createPrivateKey(readFileSync(keyFile));
const spki = createPublicKey(key).export({ type: "spki", format: "der" });
const artifact = readFileSync(statementFile);
const artifactType = "application/vnd.in-toto+json";
const bundle = toDSSEBundle({
  artifact,
  artifactType,
  signature: sign("sha256", dsse.preAuthEncoding(artifactType, artifact), key),
  keyHint: createHash("sha256").update(spki).digest("base64"),
});
console.log(JSON.stringify(bundleToJSON(bundle)));
