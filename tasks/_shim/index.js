// What an Azure Pipelines agent starts for each of our tasks: it finds the task's program for this machine, starts it
// with the agent's environment untouched, hands signals on, and ends as the program ends.
//
// An agent on Linux runs tasks through Node only. No module beside Node's own is loaded: the agent's task library
// would take inputs and credentials out of the environment before the program could read them.
'use strict';

const { spawn, spawnSync } = require('child_process');
const fs = require('fs');
const os = require('os');
const path = require('path');
const zlib = require('zlib');

/** How long a program may still tidy up after SIGTERM. The agent kills this process after 2.5 s. */
const GRACE_MS = 1500;

/** Tasks whose program is inside that of another task: an extension has room for it once. */
const INSIDE = { ExportModel: 'TrainModel' };

/** A failure that is told in words, without a stack. */
class Refusal extends Error {}

/** Escapes a logging command's data, as the agent reads it. */
function escaped(text) {
  return text.replace(/%/g, '%AZP25').replace(/\r/g, '%0D').replace(/\n/g, '%0A').replace(/##(?=vso\[)/gi, '## ');
}

function issue(type, text) {
  process.stdout.write(`##vso[task.logissue type=${type}]${escaped(text)}\n`);
}

function fail(text) {
  issue('error', text);
  process.stdout.write(`##vso[task.complete result=Failed]${escaped(text)}\n`);
  process.exitCode = 1;
}

/** The task this folder holds: the program's name and the version it must have. */
function task(folder) {
  const { name, version } = JSON.parse(fs.readFileSync(path.join(folder, 'task.json'), 'utf8'));
  // Tasks of the test channel are named with a suffix, their programs are not.
  const inside = INSIDE[name.replace(/-test$/, '')];
  return { name, program: programOf(name), inside, version: `${version.Major}.${version.Minor}.${version.Patch}` };
}

function programOf(name) {
  return name.replace(/-test$/, '').replace(/(?!^)([A-Z])/g, '-$1').toLowerCase();
}

function isFile(file) {
  try {
    return fs.statSync(file).isFile();
  } catch {
    return false;
  }
}

/** The program in the agent's image, if it is of the task's very version. */
function baked({ program, version }, others) {
  const home = process.env.MYNAH_HOME ? [path.join(process.env.MYNAH_HOME, 'bin'), process.env.MYNAH_HOME] : [];
  const search = (process.env.PATH || '').split(path.delimiter).filter(Boolean);
  for (const folder of [...home, ...search]) {
    const file = path.join(folder, program);
    if (!isFile(file)) continue;
    const { stdout } = spawnSync(file, ['--version'], { encoding: 'utf8', timeout: 5000, env: {} });
    const [said, found] = (stdout || '').trim().split(' ');
    if (said === program && found === version) return file;
    if (said === program) others.push(`${file} is version ${found}`);
  }
  return undefined;
}

/** Unpacks `packed` to `file`: whole or not at all, and nobody sees it half done. */
function unpack(packed, file) {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  const partial = `${file}.${process.pid}.partial`;
  try {
    fs.writeFileSync(partial, zlib.brotliDecompressSync(fs.readFileSync(packed)), { mode: 0o755 });
    fs.renameSync(partial, file);
  } catch (error) {
    fs.rmSync(partial, { force: true });
    throw error;
  }
}

/**
 * The folder with the programs that came with the task, unpacked; undefined if there are none for this machine.
 * They are unpacked beside their packed form, or where that cannot be written among the agent's tools.
 */
function bundled(folder, { name, program, version }) {
  const platform = `${process.platform}-${process.arch}`;
  const source = path.join(folder, 'bin', platform);
  if (!isFile(path.join(source, program)) && !isFile(path.join(source, `${program}.br`))) return undefined;
  const tools = process.env.AGENT_TOOLSDIRECTORY || process.env.AGENT_TEMPDIRECTORY || os.tmpdir();
  const places = [source, path.join(tools, 'mynah', `${name}-${version}`, platform)];
  let problem;
  for (const place of places) {
    try {
      for (const entry of fs.readdirSync(source)) {
        const file = path.join(place, entry.replace(/\.br$/, ''));
        if (isFile(file)) continue;
        if (entry.endsWith('.br')) unpack(path.join(source, entry), file);
        else if (place !== source) fs.copyFileSync(path.join(source, entry), file);
      }
      return place;
    } catch (error) {
      problem = error;
      if (!['EACCES', 'EPERM', 'EROFS', 'ENOSPC'].includes(error.code)) break;
    }
  }
  throw new Refusal(`cannot unpack the program of this task: ${problem.message}. Delete the folder ${folder}, and the agent fetches the task again.`);
}

/** Extensions carry no execute bits. Where it cannot be set it may be there already, which starting tells. */
function makeExecutable(file) {
  try {
    fs.accessSync(file, fs.constants.X_OK);
  } catch {
    try {
      fs.chmodSync(file, 0o755);
    } catch {
      return;
    }
  }
}

/** The folders of another task of the same version. The agent fetches all tasks of a job before the first one starts. */
function others(folder, task, version) {
  const tasks = path.resolve(folder, '..', '..');
  let names = [];
  try {
    names = fs.readdirSync(tasks);
  } catch {
    // A folder that cannot be listed holds nothing for us.
  }
  const found = names.filter((name) => name.replace(/(-test)?_[^_]*$/, '') === task).sort();
  return found.map((name) => path.join(tasks, name, version));
}

/**
 * Where a program that came with the task finds the backbone: the training task carries it, and another task of the
 * same job finds it there.
 */
function home(folder, version) {
  if (process.env.MYNAH_HOME || fs.existsSync(path.join(folder, 'models'))) return process.env.MYNAH_HOME || folder;
  return others(folder, 'TrainModel', version).find((other) => fs.existsSync(path.join(other, 'models')));
}

/** The program that came with the task, or with the one it is inside of. */
function carried(folder, { name, program, inside, version }) {
  const own = bundled(folder, { name, program, version });
  if (own) return path.join(own, program);
  for (const other of inside ? others(folder, inside, version) : []) {
    const place = bundled(other, { name: inside, program: programOf(inside), version });
    if (place) return path.join(place, programOf(inside));
  }
  return undefined;
}

/** The task's program on this machine, and what its environment has beside the agent's. */
function find(folder, wanted) {
  if (process.platform !== 'linux' || !['x64', 'arm64', 'arm'].includes(process.arch)) {
    throw new Refusal(
      `${wanted.name} runs on Linux on x64, arm64 and arm. This agent is ${process.platform} on ${process.arch}. ` +
        'Use a pool of Linux agents, such as `pool: { vmImage: ubuntu-24.04 }`.');
  }
  const wrong = [];
  const inImage = baked(wanted, wrong);
  if (inImage) return { program: inImage, as: wanted.program, more: {} };
  const program = carried(folder, wanted);
  if (program) {
    const found = home(folder, wanted.version);
    return { program, as: wanted.program, more: found ? { MYNAH_HOME: found } : {} };
  }
  const versions = wrong.length ? ` (${wrong.join(', ')})` : '';
  const elsewhere = `put ${wanted.program} ${wanted.version} on the PATH of this agent.`;
  if (wanted.inside && process.arch === 'x64') {
    throw new Refusal(
      `${wanted.name} ${wanted.version} takes its program from the task ${wanted.inside}, which this job does not have, and ` +
        `this agent has none of that version${versions}. Let a ${wanted.inside} step stand in the same job (with ` +
        `\`condition: false\` it is fetched and does not run), or ${elsewhere}`);
  }
  throw new Refusal(
    `${wanted.name} ${wanted.version} brings no program for Linux on ${process.arch}, and this agent has none of that version` +
      `${versions}. Run the step on an x64 agent, or ${elsewhere}`);
}

/** What to say where the system would not start a program. */
function cannotStart(program, error) {
  if (error.code === 'EACCES') return `${program} may not be executed: its folder may be mounted with noexec.`;
  if (error.code === 'ENOENT' && isFile(program)) {
    return `${program} needs the GNU C library, which this system lacks. Use an agent on Debian, Ubuntu or alike, not on Alpine.`;
  }
  return `${program} cannot be started: ${error.message}.`;
}

function run({ program, as, more }) {
  let asked = false;
  let child;
  // Handlers first: a signal that comes while the program starts is not lost, and does not end this process alone.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(signal, () => {
      asked = signal;
      if (!child) return;
      child.kill(signal);
      if (signal === 'SIGTERM') setTimeout(() => child.kill('SIGKILL'), GRACE_MS).unref();
    });
  }
  child = spawn(program, [], { argv0: as, stdio: ['ignore', 'inherit', 'inherit'], env: { ...process.env, ...more } });
  if (asked) child.kill(asked);
  let started = true;
  child.on('error', (error) => {
    // A failed `kill` is reported here too, but the program runs on.
    if (error.syscall && !error.syscall.startsWith('spawn')) return;
    started = false;
    fail(cannotStart(program, error));
  });
  child.on('close', (code, signal) => {
    if (!started) return;
    if (signal && !asked) issue('error', `${path.basename(program)} was ended by ${signal}; the machine may be out of memory.`);
    process.exitCode = signal ? 128 + os.constants.signals[signal] : code;
  });
}

try {
  const found = find(__dirname, task(__dirname));
  makeExecutable(found.program);
  run(found);
} catch (error) {
  fail(error instanceof Refusal ? error.message : `the task's own files are damaged: ${error.message}. Let the agent fetch the task again.`);
}
