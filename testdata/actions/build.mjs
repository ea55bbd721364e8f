// What docker's build-push-action does with its own toolkit: asks who builds, builds, and reads back what came of it. Prints JSON.
//
//     node build.mjs TOOLKIT standalone|plugin NAME CONTEXT

import {pathToFileURL} from 'node:url';

const [toolkit, how, name, context] = process.argv.slice(2);
const load = async file => import(pathToFileURL(`${toolkit}/node_modules/@docker/actions-toolkit/lib/${file}`));
const {Buildx} = await load('buildx/buildx.js');
const {Build} = await load('buildx/build.js');
const {Builder} = await load('buildx/builder.js');
const {History} = await load('buildx/history.js');
const {Exec} = await load('exec.js');

const buildx = new Buildx({standalone: how === 'standalone'});
const told = {
  available: await buildx.isAvailable(),
  version: await buildx.version(),
  newEnough: await buildx.versionSatisfies('>=0.13.0'),
};
const builder = new Builder({buildx});
told.exists = await builder.exists('builder-1234');
told.builder = await builder.inspect('builder-1234');

const build = new Build({buildx});
const args = [
  'build',
  '--iidfile', build.getImageIDFilePath(),
  '--attest', `type=provenance,${Build.resolveAttestationAttrs('mode=max,builder-id=https://example.org/runs/1')}`,
  '--label', 'org.opencontainers.image.source=https://example.org/app',
  '--annotation', 'index,manifest:org.opencontainers.image.title=app',
  '--secret', Build.resolveSecretString('GIT_AUTH_TOKEN.example.org=secret'),
  '--builder', told.builder.name,
  '--metadata-file', build.getMetadataFilePath(),
  '--tag', name,
  '--push',
  context
];
const command = await buildx.getCommand(args);
const ran = await Exec.getExecOutput(command.command, command.args, {ignoreReturnCode: true, silent: true});
told.exitCode = ran.exitCode;
told.stderr = ran.stderr;
const metadata = build.resolveMetadata();
told.imageID = build.resolveImageID();
told.digest = build.resolveDigest(metadata);
told.warnings = build.resolveWarnings(metadata);
told.ref = build.resolveRef(metadata) ?? null;
told.name = metadata?.['image.name'];
// Its last step, which makes the summary of the workflow.
const exported = await new History({buildx}).export({refs: [told.ref]});
told.record = {size: exported.dockerbuildSize, builder: exported.builderName, summary: Object.values(exported.summaries)[0]};
console.log(`\n${JSON.stringify(told)}`);
