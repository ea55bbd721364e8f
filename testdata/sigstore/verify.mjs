// Verifies bundles with Sigstore's own packages: no log and no time is asked for, and the key is found by its hint.
// usage: node verify.mjs NODE_MODULES PUBLIC_KEY BUNDLE...; prints the type of what each bundle says.
import { createHash, createPublicKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [modules, keyFile, ...bundles] = process.argv.slice(2);
const require = createRequire(`${modules}/index.js`);
const { bundleFromJSON, assertBundleLatest } = require("@sigstore/bundle");
const { Verifier, toSignedEntity, toTrustMaterial } = require("@sigstore/verify");

const publicKey = createPublicKey(readFileSync(keyFile));
const hint = createHash("sha256").update(publicKey.export({ type: "spki", format: "der" })).digest("base64");
const root = { certificateAuthorities: [], timestampAuthorities: [], tlogs: [], ctlogs: [] };
const find = (asked) => {
  if (asked !== hint) throw new Error(`asked for the key ${asked}, and there is ${hint}`);
  return { publicKey, validFor: () => true };
};
const trust = toTrustMaterial(root, find);
const options = { tlogThreshold: 0, ctlogThreshold: 0, tsaThreshold: 0, timestampThreshold: 0 };
for (const file of bundles) {
  const bundle = bundleFromJSON(JSON.parse(readFileSync(file, "utf8")));
  assertBundleLatest(bundle);
  new Verifier(trust, options).verify(toSignedEntity(bundle));
  const statement = JSON.parse(bundle.content.dsseEnvelope.payload.toString("utf8"));
  console.log(`${bundle.mediaType} ${statement.predicateType}`);
}
