// The controls: which task, case, slices and arms are shown.

const byId = (name) => document.getElementById(name);
const make = (tag, values, ...children) => {
  const element = Object.assign(document.createElement(tag), values);
  element.append(...children);
  return element;
};
const state = { data: null, at: [0, 0, 0], reference: true, cross: true, hidden: new Set(), number: -1 };
const views = [];

const shownArms = () => state.data.about.arms.map((_, arm) => arm).filter((arm) => !state.hidden.has(nameOf(arm)));
const nameOf = (arm) => state.data.about.arms[arm][0];
const digits = (dice) => (dice === null ? 'no Dice' : dice.toFixed(3));

function draw() {
  if (!state.data) return;
  const shown = { reference: state.reference, arms: shownArms(), cross: state.cross };
  for (const view of views) {
    const { plane } = view;
    const side = state.data.about.size[plane.through];
    view.where = drawPlane(view.canvas, state.data, plane, state.at, shown);
    view.slider.max = side - 1;
    view.slider.value = state.at[plane.through];
    view.output.textContent = `${state.at[plane.through] + 1} of ${side}`;
  }
  for (const row of byId('arms').children) {
    const place = shown.arms.indexOf(Number(row.dataset.arm));
    row.querySelector('line').setAttribute('stroke-dasharray', place < 0 ? '' : DASHES[place % DASHES.length].join(' '));
    row.classList.toggle('off', place < 0);
    row.querySelector('input').checked = place >= 0;
  }
}

function move(axis, to) {
  if (!state.data) return;
  state.at[axis] = Math.min(Math.max(to, 0), state.data.about.size[axis] - 1);
  draw();
}

function addView(plane) {
  const name = plane.name.toLowerCase();
  const canvas = make('canvas', { tabIndex: 0, id: `canvas-${name}` });
  canvas.setAttribute('role', 'img');
  canvas.setAttribute('aria-label', `${plane.name} slice; arrow keys change it`);
  const slider = make('input', { type: 'range', min: 0, id: `slider-${name}` });
  slider.setAttribute('aria-label', `${plane.name} slice`);
  const output = make('output', { id: `slice-${name}` });
  const view = { plane, canvas, slider, output };
  const scroll = (by) => move(plane.through, state.at[plane.through] + by);
  slider.addEventListener('input', () => move(plane.through, Number(slider.value)));
  let rest = 0;
  canvas.addEventListener('wheel', (event) => {
    event.preventDefault();
    rest += event.deltaMode ? event.deltaY * 30 : event.deltaY; // a trackpad sends many small steps
    const steps = Math.trunc(rest / 30);
    rest -= steps * 30;
    if (steps) scroll(-Math.sign(steps) * Math.min(Math.abs(steps), 3));
  }, { passive: false });
  canvas.addEventListener('keydown', (event) => {
    const by = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 5, PageDown: -5 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    scroll(by);
  });
  canvas.addEventListener('click', (event) => {
    const box = canvas.getBoundingClientRect(), { left, top, sx, sy, rows } = view.where;
    const { size } = state.data.about;
    const voxel = (axis, at) => Math.min(Math.max(Math.floor(at), 0), size[axis] - 1);
    state.at[plane.across] = voxel(plane.across, (event.clientX - box.left - left) / sx);
    state.at[plane.up] = voxel(plane.up, rows - (event.clientY - box.top - top) / sy);
    draw();
  });
  const head = make('div', { className: 'head' }, make('h2', { textContent: plane.name }), output);
  byId('planes').append(make('section', { className: 'plane', id: `plane-${name}` }, head, canvas, slider));
  views.push(view);
}

function showPlane(name) {
  byId('planes').dataset.plane = name;
  for (const button of byId('plane-choice').children) button.setAttribute('aria-pressed', button.value === name);
  draw();
}

function listArms() {
  const rows = state.data.about.arms.map(([name, dice], arm) => {
    const box = make('input', { type: 'checkbox' });
    box.addEventListener('change', () => {
      if (box.checked) state.hidden.delete(name); else state.hidden.add(name);
      draw();
    });
    const only = make('button', { type: 'button', textContent: 'only' });
    only.setAttribute('aria-label', `only ${name}`);
    only.addEventListener('click', () => hideAllBut([name]));
    const line = '<svg width="34" height="8" aria-hidden="true"><line x1="1" x2="33" y1="4" y2="4"/></svg>';
    const label = make('label', {}, box);
    label.insertAdjacentHTML('beforeend', line);
    label.append(make('span', { textContent: name, className: 'name' }));
    const row = make('li', {}, label, make('span', { textContent: digits(dice), className: 'dice' }), only);
    row.dataset.arm = arm;
    return row;
  });
  byId('arms').replaceChildren(...rows);
}

function hideAllBut(names) {
  state.hidden = new Set(state.data.about.arms.map(([name]) => name).filter((name) => !names.includes(name)));
  draw();
}

// The arms of a case that are worth a first look: the one with the least Dice and the one with the most.
function extremes() {
  const scored = state.data.about.arms.filter(([, dice]) => dice !== null).sort((a, b) => a[1] - b[1]);
  const shown = scored.length ? [scored[0], scored[scored.length - 1]] : state.data.about.arms.slice(0, 1);
  hideAllBut(shown.map(([name]) => name));
}

async function open(number) {
  state.number = number;
  byId('status').textContent = 'Unpacking …';
  try {
    const data = await unpack(number);
    if (state.number !== number) return; // another case was asked for meanwhile
    const about = data.about;
    const same = state.data && state.data.about.task === about.task;
    state.data = data;
    state.at = worthSeeing(data);
    byId('labels').replaceChildren(...about.labels.map((name, place) => {
      const mark = make('span', { className: 'mark' });
      mark.style.background = colourOf(place + 1);
      return make('li', {}, mark, name);
    }));
    listArms();
    if (same) draw(); else extremes();
    const voxel = about.spacing.map((mm) => mm.toFixed(1)).join(' × ');
    byId('status').textContent =
      `${about.task}, ${about.name}: Dice of the arms ${about.spread.toFixed(3)} apart; voxels of ${voxel} mm`;
  } catch (error) {
    byId('status').textContent = `This case cannot be shown: ${error.message}`;
  }
}

function listCases() {
  const task = byId('task').value;
  const options = facts.cases.map((about, number) => [about, number]).filter(([about]) => !task || about.task === task);
  byId('case').replaceChildren(...options.map(([about, number]) => make('option', {
    value: number,
    textContent: `${about.spread.toFixed(3)} · ${about.name}${task ? '' : ` · ${about.task}`}`,
  })));
  open(Number(byId('case').value));
}

function step(by) {
  const list = byId('case');
  const to = list.selectedIndex + by;
  if (to < 0 || to >= list.options.length) return;
  list.selectedIndex = to;
  open(Number(list.value));
}

function start() {
  PLANES.forEach(addView);
  for (const name of ['All', ...PLANES.map((plane) => plane.name)]) {
    const button = make('button', { type: 'button', value: name.toLowerCase(), textContent: name });
    button.addEventListener('click', () => showPlane(button.value));
    byId('plane-choice').append(button);
  }
  for (const task of [...new Set(facts.cases.map((about) => about.task))].sort()) {
    byId('task').append(make('option', { value: task, textContent: task }));
  }
  byId('task').addEventListener('change', listCases);
  byId('case').addEventListener('change', () => open(Number(byId('case').value)));
  byId('previous').addEventListener('click', () => step(-1));
  byId('next').addEventListener('click', () => step(1));
  for (const name of ['reference', 'cross']) {
    byId(name).addEventListener('change', (event) => { state[name] = event.target.checked; draw(); });
  }
  byId('all').addEventListener('click', () => hideAllBut(state.data.about.arms.map(([name]) => name)));
  byId('none').addEventListener('click', () => hideAllBut([]));
  byId('extremes').addEventListener('click', extremes);
  window.addEventListener('resize', draw);
  showPlane('all');
  listCases();
}

if (typeof DecompressionStream === 'undefined') {
  byId('status').textContent =
    'This browser cannot unpack the images (it has no DecompressionStream). Chrome 80, Firefox 113, Safari 16.4 and newer can.';
} else {
  document.body.classList.add('ready');
  start();
}
