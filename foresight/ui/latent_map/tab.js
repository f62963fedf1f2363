// The map's drawing: runs once when Gradio mounts the component, with element, trigger, props, server and watch.
// props.value: JSON of ui/latent_map/panels.py, "" before the first map. props.library: where Gradio keeps its own plotly.
// Sends, all with the layer's point: click {index, id}, select {indices, id}, and input when the layer changes.

// Okabe and Ito's colours and four more. Their number shares no factor with the number of symbols, so that the pairs
// of colour and symbol repeat after 88 classes in 3-D and 132 in 2-D.
const CLASS_COLORS = ['#0072B2', '#E69F00', '#009E73', '#CC79A7', '#D55E00', '#56B4E9', '#B8A900', '#8C5A2B', '#7B5CD6',
  '#A01C4A', '#7f8a97'];
const GLYPHS = {circle: '●', square: '■', diamond: '◆', 'triangle-up': '▲', cross: '✚', star: '★', x: '✖',
  'triangle-down': '▼', hexagon: '⬢', 'circle-open': '○', 'square-open': '□', 'diamond-open': '◇'};
const SYMBOLS = Object.keys(GLYPHS);
const SYMBOLS_3D = ['circle', 'square', 'diamond', 'cross', 'x', 'circle-open', 'square-open', 'diamond-open'];
const OF_SHAPE = {circle: 'circle', square: 'square', triangle: 'triangle-up', star: 'star', diamond: 'diamond',
  cross: 'cross', bar: 'triangle-down', ring: 'circle-open', background: 'x'};
const CAMERA = {eye: {x: 0.95, y: 0.95, z: 0.6}};
const GREY = '#9aa3ad', YOURS = 'your picture';
const THUMBNAILS = 400; // kept in the page

const find = name => element.querySelector('.fs-map-' + name);
const [plot, stage, tip, legend, count, colour, clear, layers, slider, layerName, play] = ['plot', 'stage', 'tip',
  'legend', 'count', 'colour', 'clear', 'layers', 'slider', 'layer', 'play'].map(find);
const modes = [...element.querySelectorAll('[data-mode]')], calm = matchMedia('(prefers-reduced-motion: reduce)').matches;

let map = null; // the value, its numbers decoded
let at = 0; // the layer shown
let chosen = null; // the point that was clicked
let selected = null; // Uint8Array, one for each point, or null
let mode = null; // what a drag does; set at the first drawing
let groups = []; // the points of each trace
let shown = null; // the places drawn now, between two layers while they move
let stale = true, moving = 0; // the number of the last move
const thumbnails = new Map();

const decode = (text, Kind) => new Kind(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);

function read(text) {
  const value = JSON.parse(text);
  for (const layer of value.layers) {
    layer.places = decode(layer.places, Float32Array);
    layer.marks = layer.marks && decode(layer.marks, Float32Array);
  }
  for (const column of value.columns) {
    if (column.classes) column.codes = decode(column.codes, Uint8Array);
    else column.values = decode(column.values, Float32Array);
  }
  value.ranges = Array.from({length: value.dimensions}, (_, d) => { // the same for all layers, so that moves are true
    let [low, high] = [Infinity, -Infinity];
    for (const all of value.layers.flatMap(l => [l.places, l.marks || []]))
      for (let i = d; i < all.length; i += value.dimensions) low = Math.min(low, all[i]), high = Math.max(high, all[i]);
    const edge = 0.05 * (high - low) || 1;
    return [low - edge, high + edge];
  });
  return value;
}

const library = (async () => {
  const own = document.querySelector('script[type="module"][src*="assets/"]');
  await import(new URL(props.library, own ? own.src : document.baseURI + 'assets/'));
  return window.Plotly;
})();

const column = () => map.columns.find(c => c.name === colour.value) || map.columns[0];
const solid = () => map.dimensions === 3;
const own = () => solid() ? 'diamond' : 'star'; // the symbol of the picture that was brought in
const axes = () => solid() ? ['x', 'y', 'z'] : ['x', 'y'];
const pick = (rows, axis) => Float32Array.from(rows, i => shown[i * map.dimensions + axis]);
const send = (event, more) => trigger(event, {id: map.id, point: map.layers[at].point, ...more});

function dress(column, k) {
  const symbols = solid() ? SYMBOLS_3D : SYMBOLS, name = column.classes[k];
  const symbol = !solid() && column.name === 'shape' ? OF_SHAPE[name] : symbols[k % symbols.length];
  const tint = name === 'background' && column.name !== 'background' ? GREY : null;
  return {color: tint || (column.colors && column.colors[k]) || CLASS_COLORS[k % CLASS_COLORS.length], symbol};
}

function group() {
  const c = column();
  if (c.classes) {
    const parts = c.classes.map(() => []);
    c.codes.forEach((k, i) => parts[k].push(i));
    return parts.map((rows, k) => ({rows, ...dress(c, k), name: c.classes[k], k})).filter(g => g.rows.length);
  }
  const known = [], missing = [];
  c.values.forEach((v, i) => (Number.isFinite(v) ? known : missing).push(i));
  return [{rows: known, values: Float32Array.from(known, i => c.values[i]), symbol: 'circle'},
    {rows: missing, color: GREY, symbol: 'circle-open', name: 'no value'}].filter(g => g.rows.length);
}

function trace(g) {
  const size = (map.count > 6000 ? 4 : map.count > 1500 ? 6 : 9) * (solid() ? 0.6 : 1);
  const marker = {size, symbol: g.symbol, color: g.values || g.color, line: {width: solid() ? 0 : 0.6, color: '#888'}};
  if (g.values) Object.assign(marker, {colorscale: 'Cividis', cmin: column().low, cmax: column().high});
  const scatter = {type: solid() ? 'scatter3d' : 'scattergl', mode: 'markers', marker, hoverinfo: 'none', name: g.name};
  axes().forEach((axis, d) => { scatter[axis] = pick(g.rows, d); });
  if (!selected) return scatter;
  if (solid()) { // which knows no selection of its own
    const pale = getComputedStyle(stage).borderTopColor;
    marker.color = Array.from(g.rows, i => selected[i] ? g.color || '#0072B2' : pale);
    return scatter;
  }
  scatter.selectedpoints = g.rows.flatMap((i, n) => selected[i] ? [n] : []);
  scatter.unselected = {marker: {opacity: 0.16, color: GREY}};
  return scatter;
}

function rings() { // what was clicked, and the picture that was projected in
  const traces = [], ink = getComputedStyle(element).color, {marks} = map.layers[at];
  const add = (places, marker, name) => {
    const scatter = {type: solid() ? 'scatter3d' : 'scatter', mode: 'markers', marker, hoverinfo: 'skip', name};
    axes().forEach((axis, d) => { scatter[axis] = places.map(p => p[d]); });
    traces.push(scatter);
  };
  const place = (all, i) => Array.from(all.subarray(i * map.dimensions, (i + 1) * map.dimensions));
  if (chosen !== null)
    add([place(shown, chosen)], {size: solid() ? 9 : 20, symbol: 'circle-open', color: ink, line: {width: 2.5}});
  if (marks) {
    const all = Array.from({length: marks.length / map.dimensions}, (_, i) => place(marks, i)), many = all.length > 1;
    add(all, {size: (solid() ? 8 : 17) / (many ? 2 : 1), symbol: own(),
      color: '#D55E00', line: {width: many ? 0.5 : 1.5, color: ink}}, YOURS);
  }
  return traces;
}

function layout() {
  const [x, y, z] = map.ranges.map(range => ({visible: false, autorange: false, range: range.slice()}));
  const base = {margin: {l: 4, r: 4, t: 4, b: 4}, paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)',
    showlegend: false, hovermode: 'closest', uirevision: map.id, selections: [], selectionrevision: Date.now()};
  return solid()
    ? {...base, scene: {xaxis: x, yaxis: y, zaxis: z, aspectmode: 'data', dragmode: 'orbit', camera: CAMERA}}
    : {...base, dragmode: mode, xaxis: x, yaxis: {...y, scaleanchor: 'x'}, newselection: {line: {color: '#0072B2'}}};
}

async function draw() {
  const Plotly = await library;
  stale = !plot.clientWidth; // hidden: drawn when it is seen
  if (!map || stale) return;
  const start = performance.now();
  groups = group();
  await Plotly.react(plot, [...groups.map(trace), ...rings()], layout(),
    {displayModeBar: false, scrollZoom: false, doubleClick: false, responsive: true});
  if (!plot.listening) listen();
  element.dataset.drawn = JSON.stringify({id: map.id, at: start, milliseconds: performance.now() - start});
  label();
}

const indexOf = point => groups[point.curveNumber]?.rows[point.pointNumber] ?? null; // null: a ring or a star
function listen() {
  plot.listening = true;
  plot.on('plotly_click', e => choose(indexOf(e.points[0])));
  plot.on('plotly_hover', e => hover(indexOf(e.points[0])));
  plot.on('plotly_unhover', () => hover(null));
  plot.on('plotly_selected', e => {
    if (e && e.lassoPoints) select(e.points.map(indexOf).filter(i => i !== null).sort((a, b) => a - b));
  });
  plot.on('plotly_doubleclick', home);
}

async function home() {
  const Plotly = await library, [x, y] = map.ranges.map(range => range.slice());
  Plotly.relayout(plot, solid() ? {'scene.camera': CAMERA} : {'xaxis.range': x, 'yaxis.range': y});
}

function choose(index) {
  if (index === null) return;
  chosen = index;
  send('click', {index});
  draw();
}

function select(rows, none = !rows.length) {
  selected = none ? null : new Uint8Array(map.count);
  rows.forEach(i => { selected[i] = 1; });
  send('select', {indices: rows});
  draw();
}

function words(i) {
  const classOf = name => { const c = map.columns.find(x => x.name === name); return c ? c.classes[c.codes[i]] : ''; };
  const what = map.names ? map.names[i] : classOf('shape') === 'background' ? 'background' : classOf('colour') + ' ' + classOf('shape');
  const c = column();
  if (['shape', 'colour'].includes(c.name)) return what;
  const value = c.classes ? c.classes[c.codes[i]] : Number.isFinite(c.values[i]) ? c.values[i].toPrecision(3) : 'none';
  return what + ' · ' + c.title + ': ' + value;
}

const scales = new Map(); // of columns of numbers, so that what was typed into them stays
function scale(c) {
  if (!scales.has(c)) {
    const ends = ['from', 'to'].map(end => make('input', {type: 'number', step: 'any', ariaLabel: `${c.title} ${end}`}));
    const keep = () => {
      const [low, high] = ends.map((input, i) => input.value === '' ? [-Infinity, Infinity][i] : Number(input.value));
      const all = ends.every(input => input.value === '');
      select(all ? [] : Array.from(c.values.keys()).filter(i => c.values[i] >= low && c.values[i] <= high), all);
    };
    ends.forEach(input => input.addEventListener('change', keep));
    scales.set(c, make('div', {className: 'fs-map-numbers'},
      make('div', {className: 'fs-map-scale'}, (c.least < c.low ? '≤ ' : '') + c.low.toPrecision(3),
        make('i'), (c.most > c.high ? '≥ ' : '') + c.high.toPrecision(3) + ' ' + c.unit),
      make('label', {}, 'Select from ', ends[0]), make('label', {}, ' to ', ends[1])));
  }
  return scales.get(c);
}

let wanted = null;
function hover(index) {
  wanted = index;
  tip.hidden = index === null;
  plot.style.cursor = index === null ? '' : 'pointer';
  if (index === null) return;
  const image = tip.querySelector('img'), key = map.id + ':' + index;
  tip.querySelector('p').textContent = words(index);
  image.removeAttribute('src');
  if (thumbnails.has(key)) image.src = thumbnails.get(key);
  else setTimeout(async () => {
    if (wanted !== index) return; // the pointer has moved on
    const url = await server.thumbnail([map.id, index]);
    if (thumbnails.size >= THUMBNAILS) thumbnails.delete(thumbnails.keys().next().value);
    thumbnails.set(key, url);
    if (wanted === index && url) image.src = url;
  }, 30);
}
stage.addEventListener('pointermove', e => {
  const box = stage.getBoundingClientRect(), x = e.clientX - box.left, y = e.clientY - box.top;
  tip.style.left = Math.max(0, x + 150 > box.width ? x - 150 : x + 16) + 'px';
  tip.style.top = Math.max(0, y + 170 > box.height ? y - 170 : y + 16) + 'px';
});

function label() {
  const c = column(), some = selected ? selected.reduce((a, b) => a + b, 0) : 0;
  count.textContent = selected ? some + ' / ' + map.count + ' ' + map.noun : map.count + ' ' + map.noun;
  clear.hidden = !selected;
  modes.forEach(b => b.setAttribute('aria-pressed', String(b.dataset.mode === mode)));
  const keys = c.classes ? groups.map(key) : [scale(c)], marks = map.layers[at].marks ? [yours()] : [];
  if (c.classes || legend.firstChild !== keys[0]) legend.replaceChildren(...keys);  // what has the focus keeps it
  while (legend.childNodes.length > keys.length) legend.lastChild.remove();
  legend.append(...marks);
  layers.hidden = map.layers.length < 2;
  layerName.textContent = map.layers[at].point;
  slider.setAttribute('aria-valuetext', map.layers[at].point);
}

function make(tag, values, ...parts) {
  const node = Object.assign(document.createElement(tag), values);
  node.append(...parts);
  return node;
}

function key(g) { // a class: its mark, name and number; a click selects it
  const mark = make('i', {textContent: GLYPHS[g.symbol]}), all = Boolean(selected) && g.rows.every(i => selected[i]);
  const button = make('button', {type: 'button', title: 'Select all ' + g.rows.length + ' of ' + g.name}, mark,
    g.name + ' ', make('span', {textContent: g.rows.length}));
  mark.style.color = g.color;
  button.setAttribute('aria-pressed', String(all));
  button.addEventListener('click', () => select(all ? [] : g.rows));
  return button;
}

const yours = () => make('div', {className: 'fs-map-yours'}, make('i', {textContent: GLYPHS[own()]}), YOURS);

async function go(to) {
  const Plotly = await library, from = shown, aim = map.layers[to].places, run = ++moving;
  at = to;
  slider.value = to;
  label();
  const frames = calm || map.count > 8000 ? 1 : 14;
  for (let f = 1; f < frames && run === moving; f++) {
    const t = f / frames, ease = t * t * (3 - 2 * t);
    shown = aim.map((v, i) => from[i] + (v - from[i]) * ease);
    const update = {};
    axes().forEach((axis, d) => { update[axis] = groups.map(g => pick(g.rows, d)); });
    await Plotly.restyle(plot, update, groups.map((_, i) => i));
    await new Promise(requestAnimationFrame);
  }
  if (run !== moving) return;
  shown = aim;
  send('input');
  await draw();
}

slider.addEventListener('input', () => go(Number(slider.value)));
play.addEventListener('click', async () => {
  for (let to = 0; to < map.layers.length; to++) {
    await go(to);
    await new Promise(done => setTimeout(done, 500));
  }
});
colour.addEventListener('change', draw);
clear.addEventListener('click', () => select([]));
clear.addEventListener('click', () => scales.clear());
find('home').addEventListener('click', home);
modes.forEach(button => button.addEventListener('click', () => {
  mode = mode === button.dataset.mode ? false : button.dataset.mode;
  draw();
}));
document.addEventListener('click', e => { // tiles of the gallery and of neighbours
  const tile = element.isConnected && map && e.target.closest('[data-map-index]');
  if (tile) choose(Number(tile.dataset.mapIndex));
});

function load() {
  if (!props.value) return;
  const before = map, same = (map = read(props.value)) && before && before.id === map.id;
  scales.clear();
  if (!same) [selected, chosen, moving] = [null, null, moving + 1];
  if (map.layers[0].marks) chosen = null;
  if (map.layer !== null) at = map.layers.findIndex(l => l.point === map.layer);
  shown = map.layers[at].places;
  const phone = element.clientWidth < 560; // a drag scrolls the page, and the map lies below its form
  mode = mode ?? (phone ? false : 'lasso');
  const wish = map.colour || colour.value;
  colour.replaceChildren(...map.columns.map(c => new Option(c.title, c.name)));
  colour.value = map.columns.some(c => c.name === wish) ? wish : map.columns[0].name;
  slider.max = map.layers.length - 1;
  slider.value = at;
  element.classList.toggle('fs-map-solid', solid());
  element.classList.add('fs-map-full');
  if (before && before.dimensions !== map.dimensions) library.then(P => { P.purge(plot); plot.listening = false; });
  draw();
  if (phone && map.layer !== null) element.scrollIntoView({behavior: calm ? 'auto' : 'smooth'});
}

watch('value', load);
new ResizeObserver(() => { if (stale) draw(); }).observe(plot);
library.catch(() => { find('empty').textContent = 'The drawing library did not load: reload the page.'; });
load();
