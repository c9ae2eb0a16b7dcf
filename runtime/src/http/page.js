'use strict';

const MAX_BARS = 8;
const find = (id) => document.getElementById(id);
const percent = (value) => `${(100 * value).toFixed(value > 0.995 ? 0 : 1)} %`;

let labels = [];
let modelDigest = null;
let card = null;

/* All text reaches the page as text, never as markup: labels and words are foreign. */
function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function lamp(id, good) {
  find(id).className = good ? 'good' : 'bad';
}

async function loadModel(digest) {
  modelDigest = digest;
  const answer = await fetch('/model');
  if (!answer.ok) { modelDigest = null; return; }
  card = await answer.json();
  labels = card.labels;
}

function showBars(view) {
  const rows = view.probabilities
    .map((value, index) => ({ name: labels[index] ?? `label ${index}`, value }))
    .sort((a, b) => b.value - a.value)
    .slice(0, MAX_BARS)
    .map(({ name, value }) => {
      const row = element('li', undefined, view.sighting?.label === name ? 'seen' : '');
      const meter = element('meter');
      meter.value = value;
      row.append(element('span', name, 'name'), element('span', percent(value), 'value'), meter);
      return row;
    });
  find('bars').replaceChildren(...rows);
}

function showWords(words) {
  if (words.length === 0) return;
  find('words').replaceChildren(...words.map(({ time, text }) => {
    const row = element('li');
    const when = element('time', new Date(time).toLocaleTimeString());
    when.dateTime = time;
    row.append(element('span', text), when);
    return row;
  }));
}

function showFacts(view) {
  const facts = [
    ['frames', `${view.status.frames}, ${view.fps.toFixed(1)} a second`],
    ['unreadable', String(view.status.unreadableFrames)],
    ['words', String(view.status.utterances)],
  ];
  if (view.temperature !== null) facts.push(['temperature', `${view.temperature.toFixed(1)} °C`]);
  if (card) {
    facts.push(['model', `${card.model.sha256.slice(7, 19)}, ${card.labels.length} labels`]);
    facts.push(['accuracy', `${percent(card.crossValidation.accuracy)} in cross-validation`]);
  }
  facts.push(['version', view.status.version]);
  find('facts').replaceChildren(...facts.flatMap(([name, value]) => [element('dt', name), element('dd', value)]));
  find('problem').hidden = !view.status.problem;
  find('problem').textContent = view.status.problem ?? '';
}

async function show(view) {
  if (view.status.model && view.status.model !== modelDigest) await loadModel(view.status.model);
  const sighting = view.sighting;
  if (sighting) {
    find('label').textContent = sighting.label
      ? `${sighting.label} ${percent(sighting.probability)}`
      : `unknown (${sighting.best}? ${percent(sighting.probability)})`;
    find('label').className = sighting.label ? '' : 'unknown';
  }
  lamp('camera', view.status.state === 'running' && !(view.status.problem ?? '').startsWith('the camera'));
  lamp('voice', view.audible);
  lamp('link', true);
  showBars(view);
  showWords(view.words);
  showFacts(view);
}

const events = new EventSource('/events');
events.addEventListener('view', (event) => show(JSON.parse(event.data)));
events.addEventListener('error', () => lamp('link', false));
events.addEventListener('open', () => {
  /* After an interruption the picture's stream has ended too. */
  if (find('link').className === 'bad') find('stream').src = `/stream?${Date.now()}`;
});
