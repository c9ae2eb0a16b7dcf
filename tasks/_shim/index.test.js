// The shim under real Node, as an agent starts it: `node --test tasks/_shim/index.test.js`.
'use strict';

const assert = require('assert');
const { spawn, spawnSync } = require('child_process');
const fs = require('fs');
const os = require('os');
const path = require('path');
const test = require('node:test');
const zlib = require('zlib');

const NODE = process.execPath;
const PLATFORM = `${process.platform}-${process.arch}`;

/** A task's folder as an agent unpacks it: no execute bits. */
function task(t, programs, { version = { Major: 1, Minor: 2, Patch: 3 }, name = 'BuildModules', platform = PLATFORM } = {}) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'mynah shim ü '));
  t.after(() => {
    spawnSync('chmod', ['-R', 'u+w', folder]);
    fs.rmSync(folder, { recursive: true, force: true });
  });
  fs.copyFileSync(path.join(__dirname, 'index.js'), path.join(folder, 'index.js'));
  fs.writeFileSync(path.join(folder, 'task.json'), JSON.stringify({ name, version }));
  const bin = path.join(folder, 'bin', platform);
  fs.mkdirSync(bin, { recursive: true });
  for (const [file, text] of Object.entries(programs)) {
    const bytes = Buffer.from(text);
    fs.writeFileSync(path.join(bin, file), file.endsWith('.br') ? zlib.brotliCompressSync(bytes) : bytes, { mode: 0o644 });
  }
  return { folder, bin };
}

function environment(more = {}) {
  return { PATH: '/usr/bin:/bin', TF_BUILD: 'True', ...more };
}

function run({ folder }, more) {
  return spawnSync(NODE, [path.join(folder, 'index.js')], { encoding: 'utf8', env: environment(more), cwd: os.tmpdir() });
}

/** Starts the shim and waits until its program says something. */
async function start({ folder }, more) {
  const child = spawn(NODE, [path.join(folder, 'index.js')], { env: environment(more) });
  let said = '';
  const ended = new Promise((done) => child.on('close', (code, signal) => done({ code, signal, said: () => said })));
  await new Promise((begun, broken) => {
    child.stdout.on('data', (bytes) => {
      said += bytes;
      if (said.includes('\n')) begun();
    });
    child.on('close', () => broken(new Error(`it ended early: ${said}`)));
  });
  return { child, ended, said: () => said };
}

/** Makes the shim of `place` believe in another machine. */
function pretend({ folder }, property, value) {
  const index = path.join(folder, 'index.js');
  const text = fs.readFileSync(index, 'utf8').replace("'use strict';", '');
  fs.writeFileSync(index, `Object.defineProperty(process, '${property}', { value: '${value}' });\n${text}`);
}

function alive(pid) {
  try {
    process.kill(pid, 0);
    return !/^State:\s+Z/m.test(fs.readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

test('the exit code, both streams, inputs and credentials go through', (t) => {
  const place = task(t, { 'build-modules': `#!/bin/sh\necho "out $0 $INPUT_MODEL $# "\ntr '\\0' '\\n' </proc/$$/environ | grep ENDPOINT\necho err >&2\nexit 3\n` });
  const ran = run(place, { INPUT_MODEL: 'a b', 'ENDPOINT_AUTH_PARAMETER_0A-1_KEY': 'k' });
  assert.strictEqual(ran.status, 3);
  assert.match(ran.stdout, /build-modules a b 0/);
  assert.match(ran.stdout, /ENDPOINT_AUTH_PARAMETER_0A-1_KEY=k/);
  assert.strictEqual(ran.stderr, 'err\n');
});

test('a packed program is unpacked once, and so is what lies beside it', (t) => {
  const place = task(t, { 'build-modules.br': '#!/bin/sh\ncat "$(dirname "$0")/mynah-runtime"\n', 'mynah-runtime.br': 'the runtime\n' });
  assert.strictEqual(run(place).stdout, 'the runtime\n');
  const file = path.join(place.bin, 'build-modules');
  const before = fs.statSync(file).mtimeMs;
  assert.strictEqual(run(place).stdout, 'the runtime\n');
  assert.strictEqual(fs.statSync(file).mtimeMs, before);
  assert.deepStrictEqual(fs.readdirSync(place.bin).filter((name) => name.includes('partial')), []);
});

test('the backbone of the training task serves the other tasks of the job', (t) => {
  const tasks = fs.mkdtempSync(path.join(os.tmpdir(), 'tasks'));
  t.after(() => fs.rmSync(tasks, { recursive: true, force: true }));
  const models = path.join(tasks, 'TrainModel_f9b4', '1.2.3', 'models');
  fs.mkdirSync(models, { recursive: true });
  const place = task(t, { 'build-modules': '#!/bin/sh\necho "home $MYNAH_HOME"\n' });
  const folder = path.join(tasks, 'BuildModules_ed97', '1.2.3');
  fs.cpSync(place.folder, folder, { recursive: true });
  assert.strictEqual(run({ folder }).stdout, `home ${path.dirname(models)}\n`);
  assert.strictEqual(run({ folder }, { MYNAH_HOME: '/given' }).stdout, 'home /given\n');
  fs.rmSync(models, { recursive: true });
  assert.strictEqual(run({ folder }).stdout, 'home \n');
});

test('a program inside that of another task is started from there, by its own name', (t) => {
  const tasks = fs.mkdtempSync(path.join(os.tmpdir(), 'tasks'));
  t.after(() => fs.rmSync(tasks, { recursive: true, force: true }));
  const place = task(t, {}, { name: 'ExportModel', platform: 'linux-x64' });
  const folder = path.join(tasks, 'ExportModel_27f2', '1.2.3');
  fs.cpSync(place.folder, folder, { recursive: true });
  pretend({ folder }, 'arch', 'x64');
  const alone = run({ folder });
  assert.strictEqual(alone.status, 1);
  assert.match(alone.stdout, /ExportModel 1\.2\.3 takes its program from the task TrainModel, which this job does not have/);
  assert.match(alone.stdout, /`condition: false`.*put export-model 1\.2\.3 on the PATH/);
  // Only a real program is told by which name it was started; this one reads what to do from a file.
  const packed = path.join(tasks, 'TrainModel_f9b4', '1.2.3', 'bin', 'linux-x64', 'train-model.br');
  fs.mkdirSync(path.dirname(packed), { recursive: true });
  const quick = { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 1 } };
  fs.writeFileSync(packed, zlib.brotliCompressSync(fs.readFileSync('/bin/bash'), quick));
  const says = path.join(tasks, 'says');
  fs.writeFileSync(says, 'echo "$0 is $(readlink /proc/$$/exe)"; exit 4\n');
  const ran = run({ folder }, { BASH_ENV: says });
  assert.strictEqual(ran.status, 4, ran.stdout + ran.stderr);
  assert.strictEqual(ran.stdout, `export-model is ${packed.replace(/\.br$/, '')}\n`);
});

test('many at once on one agent all run whole programs', async (t) => {
  const place = task(t, { 'build-modules.br': `#!/bin/sh\n# ${'x'.repeat(500000)}\necho whole\n` });
  const runs = Array.from({ length: 6 }, () => start(place));
  for (const one of await Promise.all(runs)) assert.strictEqual((await one.ended).code, 0);
});

test('a task folder that cannot be written is no obstacle', { skip: process.getuid() === 0 && !fs.existsSync('/usr/bin/setpriv') && 'root writes anywhere' }, (t) => {
  const place = task(t, { 'build-modules.br': '#!/bin/sh\necho "$0"\n' });
  const tools = fs.mkdtempSync(path.join(os.tmpdir(), 'tools'));
  t.after(() => fs.rmSync(tools, { recursive: true, force: true }));
  fs.chmodSync(tools, 0o777);
  spawnSync('chmod', ['-R', 'a+rX,a-w', place.folder]);
  const env = environment({ AGENT_TOOLSDIRECTORY: tools });
  const index = path.join(place.folder, 'index.js');
  const ran = process.getuid() === 0
    ? spawnSync('/usr/bin/setpriv', ['--reuid=65534', '--regid=65534', '--clear-groups', NODE, index], { encoding: 'utf8', env })
    : spawnSync(NODE, [index], { encoding: 'utf8', env });
  // The folder above may be closed to that user, which is not what is tested.
  if (/cannot find module|EACCES.*index/i.test(ran.stderr)) return t.skip('this machine hides temporary folders from other users');
  assert.strictEqual(ran.status, 0, ran.stdout + ran.stderr);
  assert.ok(ran.stdout.startsWith(tools), ran.stdout);
});

test('a program in the agent image wins if it is of the same version', (t) => {
  const image = fs.mkdtempSync(path.join(os.tmpdir(), 'image'));
  t.after(() => fs.rmSync(image, { recursive: true, force: true }));
  const program = (version) => `#!/bin/sh\n[ "$1" = --version ] && { echo "build-modules ${version}"; exit; }\necho baked\n`;
  const install = (version) => fs.writeFileSync(path.join(image, 'build-modules'), program(version), { mode: 0o755 });
  const place = task(t, { 'build-modules': '#!/bin/sh\necho bundled\n' });
  install('1.2.3');
  assert.strictEqual(run(place, { PATH: `${image}:/usr/bin:/bin` }).stdout, 'baked\n');
  assert.strictEqual(run(place, { MYNAH_HOME: image }).stdout, 'baked\n');
  install('1.2.4');
  assert.strictEqual(run(place, { PATH: `${image}:/usr/bin:/bin` }).stdout, 'bundled\n');
  const bare = task(t, { other: '' });
  const ran = run(bare, { PATH: `${image}:/usr/bin:/bin` });
  assert.strictEqual(ran.status, 1);
  assert.match(ran.stdout, /build-modules is version 1\.2\.4\).*put build-modules 1\.2\.3 on the PATH/);
});

test('a platform without a program is told in words, as an error of the run', (t) => {
  const place = task(t, { 'build-modules': '' }, { platform: 'linux-mips' });
  const ran = run(place);
  assert.strictEqual(ran.status, 1);
  assert.match(ran.stdout, /##vso\[task\.logissue type=error\]BuildModules 1\.2\.3 brings no program for Linux on/);
  assert.match(ran.stdout, /##vso\[task\.complete result=Failed\]/);
  assert.strictEqual(ran.stderr, '');
  pretend(place, 'platform', 'win32');
  assert.match(run(place).stdout, /This agent is win32 on .*Use a pool of Linux agents/);
});

test('each architecture has its own programs', (t) => {
  for (const [arch, platform] of [['arm64', 'linux-arm64'], ['arm', 'linux-arm'], ['x64', 'linux-x64']]) {
    const place = task(t, { 'build-modules': '#!/bin/sh\necho "$0"\n' }, { platform });
    pretend(place, 'arch', arch);
    assert.match(run(place).stdout, new RegExp(`/bin/${platform}/build-modules\n$`));
  }
});

test('what cannot be started is said without a stack', (t) => {
  const lacks = run(task(t, { 'build-modules': '#!/no/such/interpreter\n' }));
  assert.strictEqual(lacks.status, 1);
  assert.match(lacks.stdout, /needs the GNU C library/);
  const broken = task(t, {});
  fs.writeFileSync(path.join(broken.bin, 'build-modules.br'), 'not brotli');
  const ran = run(broken);
  assert.strictEqual(ran.status, 1);
  assert.match(ran.stdout, /cannot unpack the program of this task/);
  assert.deepStrictEqual(fs.readdirSync(broken.bin), ['build-modules.br']);
  assert.strictEqual(ran.stderr, '');
});

test('a program that is killed says so', (t) => {
  const ran = run(task(t, { 'build-modules': '#!/bin/sh\nkill -KILL $$\n' }));
  assert.strictEqual(ran.status, 137);
  assert.match(ran.stdout, /was ended by SIGKILL/);
});

for (const signal of ['SIGINT', 'SIGTERM']) {
  test(`${signal} reaches the program, whose exit code is passed on`, async (t) => {
    const place = task(t, { 'build-modules': `#!/bin/sh\ntrap 'echo tidied; exit 130' ${signal.slice(3)}\necho $$\nwhile :; do sleep 0.05; done\n` });
    const { child, ended, said } = await start(place);
    child.kill(signal);
    assert.strictEqual((await ended).code, 130);
    assert.match(said(), /tidied/);
    assert.ok(!alive(Number(said().split('\n')[0])));
  });
}

test('a program that ignores the agent is ended with it', async (t) => {
  const place = task(t, { 'build-modules': "#!/bin/sh\ntrap '' INT TERM\necho $$\nwhile :; do sleep 0.05; done\n" });
  const { child, ended, said } = await start(place);
  child.kill('SIGINT');
  child.kill('SIGTERM');
  assert.strictEqual((await ended).code, 137);
  assert.ok(!alive(Number(said().split('\n')[0])));
});
