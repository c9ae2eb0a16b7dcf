// Judges pipelines by the language service that editors use: `pipelines_validate.js SCHEMA FILE…`. Of a Markdown file
// each block marked yaml is judged. Prints the findings and fails if there is one. NODE_PATH names the folder with the
// packages azure-pipelines-language-service and vscode-languageserver-textdocument.
'use strict';

const fs = require('fs');
const service = require('azure-pipelines-language-service');
const parser = require('azure-pipelines-language-service/lib/parser/yamlParser');
const { TextDocument } = require('vscode-languageserver-textdocument');

const print = console.log;
console.log = () => {}; // The service talks to itself.

const [schemaFile, ...files] = process.argv.slice(2);
const schema = JSON.parse(fs.readFileSync(schemaFile, 'utf8'));
const judge = service.getLanguageService(
  async () => schema, [], async () => 'file:///pipelines.json',
  { resolveRelativePath: (relative, base) => new URL(relative, base).toString() }, Promise);
judge.configure({ validate: true, schemas: [], customTags: [] });

/** The YAML in a file, each with the line it begins at. */
function documents(file) {
  const text = fs.readFileSync(file, 'utf8');
  if (!file.endsWith('.md')) return [{ text, line: 0 }];
  return [...text.matchAll(/^```yaml\n([\s\S]*?)^```$/gm)].map((match) => ({
    text: match[1],
    line: text.slice(0, match.index).split('\n').length,
  }));
}

async function findings(text) {
  const document = TextDocument.create('file:///pipeline.yml', 'azure-pipelines', 1, text);
  return judge.doValidation(document, parser.parse(text, []));
}

(async () => {
  // A schema the service cannot use lets everything pass: what is certainly wrong must be found first.
  const control = await findings('steps:\n  - task: NoSuchTask@7\n    inputs: {}\n');
  if (control.length === 0) throw new Error(`${schemaFile} finds nothing wrong with a task that does not exist`);
  let judged = 0;
  let found = 0;
  for (const file of files) {
    for (const { text, line } of documents(file)) {
      judged += 1;
      for (const finding of await findings(text)) {
        found += 1;
        const { start } = finding.range;
        print(`${file}:${line + start.line + 1}:${start.character + 1} ${finding.message.split('\n')[0].slice(0, 300)}`);
      }
    }
  }
  print(`language service: ${judged} pipelines, ${found} findings`);
  process.exitCode = found > 0 || judged === 0 ? 1 : 0;
})().catch((error) => {
  print(error.message);
  process.exitCode = 2;
});
