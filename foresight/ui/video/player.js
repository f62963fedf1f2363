// The player: runs once when Gradio mounts the component, with element, props and watch.
// props.value: JSON of ui/video/player.py, "" before the first clip. Each clip is one sheet of frames, drawn into canvases.

const COLORS = ['#0072B2', '#D55E00', '#009E73']; // Okabe and Ito's
const BAND = 8; // height of a frame in the x–t slice, in its canvas
const find = name => element.querySelector('.fs-video-' + name);
const [line, slider, time, curves, wiped, wipe, row, tracked] =
  ['line', 'at', 'time', 'curves', 'wiped', 'wipe', 'row', 'tracked'].map(find);
const all = selector => [...element.querySelectorAll(selector)];
const [play, half] = ['play', 'half'].map(what => element.querySelector(`[data-do="${what}"]`));
const sheets = {};

let clip = null, at = 0, playing = 0, slow = false; // playing: the number of the request for the next frame, 0 at rest
let since = 0; // when the frame at hand came

const clamp = (x, low, high) => Math.min(high, Math.max(low, x));
const place = k => [k % clip.columns * clip.width, Math.floor(k / clip.columns) * clip.height];

function paint(canvas, role) {
  const sheet = sheets[role];
  const size = [clip.width, clip.height];
  if (sheet) canvas.getContext('2d').drawImage(sheet, ...place(at), ...size, 0, 0, ...size);
}

function show(k) {
  at = clamp(k, 0, clip.count - 1);
  slider.value = at;
  slider.setAttribute('aria-valuetext', `frame ${at + 1} of ${clip.count}`);
  time.textContent = `frame ${at + 1} / ${clip.count} · ${(at / clip.fps).toFixed(2)} s`;
  element.dataset.frame = at + 1;
  element.style.setProperty('--now', (at + 0.5) / clip.count);
  for (const canvas of all('[data-role]')) paint(canvas, canvas.dataset.role);
  for (const canvas of all('[data-wipe]')) paint(canvas, side(canvas.dataset.wipe));
  for (const span of all('[data-values]')) span.textContent = words(JSON.parse(span.dataset.values), span.dataset.unit);
  mark();
}

const side = which => element.querySelector(`[data-side="${which}"]`).value;
const number = (v, unit) => v === null ? '–' : v.toFixed(unit ? 1 : 3) + unit;
const words = (values, unit) =>
  `${number(values.reconstruction[at], unit)} · VAE ${number(values.oracle[at], unit)}`
  + ` · still ${number(values.still[at], unit)}`;

// The row of the slice and the objects' tracks, over the frames: the true one is a line with a ring, the decoded one
// is dashed with a cross; both over both, since what differs is what is looked for.
function mark() {
  const short = Math.min(clip.width, clip.height), r = short / 40;
  const path = track => track.reduce((d, p, k) => d + (p ? (track[k - 1] ? 'L' : 'M') + p.join(' ') : ''), '');
  let drawn = `<path class="row" d="M0 ${Number(row.value) + 0.5}H${clip.width}"/>`;
  if (tracked.checked) (clip.tracks || []).forEach((object, j) => {
    const color = COLORS[j % COLORS.length];
    for (const pass of ['halo', 'ink']) {
      const stroke = pass === 'ink' ? `stroke="${color}"` : '';
      const t = object.true[at], d = object.decoded[at], add = (tag, kind, rest) => {
        drawn += `<${tag} class="${kind} ${pass}" ${stroke} ${rest}/>`;
      };
      add('path', 'true', `d="${path(object.true)}"`);
      add('path', 'decoded', `d="${path(object.decoded)}"`);
      if (t) add('circle', 'true', `cx="${t[0]}" cy="${t[1]}" r="${1.6 * r}"`);
      if (d) add('path', 'cross', `d="M${d[0] - r} ${d[1] - r}l${2 * r} ${2 * r}m0 ${-2 * r}l${-2 * r} ${2 * r}"`);
    }
  });
  for (const svg of all('[data-tracks]')) svg.innerHTML = drawn;
}

function slice() {
  const y = Number(row.value);
  for (const canvas of all('[data-slice]')) {
    const sheet = sheets[canvas.dataset.slice], paper = canvas.getContext('2d');
    paper.imageSmoothingEnabled = false;
    for (let k = 0; sheet && k < clip.count; k++) {
      const [left, top] = place(k);
      paper.drawImage(sheet, left, top + y, clip.width, 1, 0, k * BAND, clip.width, BAND);
    }
  }
}

function tick(now) {
  const due = 1000 / clip.fps * (slow ? 2 : 1);
  if (now - since >= due) {
    since = now - since > 2 * due ? now : since + due;
    show((at + 1) % clip.count);
  }
  playing = requestAnimationFrame(tick);
}

function run(on) {
  cancelAnimationFrame(playing);
  since = performance.now();
  playing = on && clip ? requestAnimationFrame(tick) : 0;
  play.textContent = playing ? '❚❚' : '▶';
  play.setAttribute('aria-label', playing ? 'Pause' : 'Play');
}

function slowly(on) {
  slow = on;
  half.setAttribute('aria-pressed', String(slow));
}

function seek(k) {
  run(false);
  show(k);
}

const deeds = {back: () => seek(at - 1), next: () => seek(at + 1), play: () => run(!playing), half: () => slowly(!slow)};
const keys = {' ': 'play', k: 'play', ArrowLeft: 'back', ',': 'back', ArrowRight: 'next', '.': 'next', h: 'half'};

element.addEventListener('click', event => {
  const button = event.target.closest('button');
  if (!clip || !button) return;
  if (button.dataset.do) deeds[button.dataset.do]();
  if (button.dataset.seek) seek(Number(button.dataset.seek));
});
element.addEventListener('keydown', event => {
  const {key, target} = event;
  if (!clip || event.ctrlKey || event.metaKey || event.altKey) return;
  if (target.matches('select, input:not(.fs-video-at)') || (key === ' ' && target.matches('button'))) return;
  if (key === 'Home' || key === 'End') seek(key === 'Home' ? 0 : clip.count - 1);
  else if (keys[key]) deeds[keys[key]]();
  else return;
  event.preventDefault();
});
slider.addEventListener('input', () => clip && seek(Number(slider.value)));

// Where in a box the pointer is, from 0 to 1; along the curves and slices it is a frame.
const across = (event, box) => clamp((event.clientX - box.left) / box.width, 0, 0.9999);
const down = (event, box) => clamp((event.clientY - box.top) / box.height, 0, 0.9999);
function drag(selector, move) {
  const dragged = event => {
    const target = event.target.closest(selector);
    if (clip && target && event.buttons & 1) move(event, target.getBoundingClientRect());
  };
  element.addEventListener('pointerdown', dragged);
  element.addEventListener('pointermove', dragged);
}
element.addEventListener('click', event => { // so that keys step from what was clicked on
  if (event.target.closest('.frame, .slice, .fs-video-curve svg')) slider.focus({preventScroll: true});
});
drag('.fs-video-curve svg', (event, box) => seek(Math.floor(across(event, box) * clip.count)));
drag('.slice', (event, box) => seek(Math.floor(down(event, box) * clip.count)));
drag('.fs-video-wipe .frame', (event, box) => {
  wiped.value = Math.round(100 * across(event, box));
  wiping();
});
const wiping = () => wipe.style.setProperty('--wipe', wiped.value + '%');
wiped.addEventListener('input', wiping);
row.addEventListener('input', () => { if (clip) { slice(); mark(); } });
tracked.addEventListener('change', () => clip && mark());
for (const select of all('[data-side]')) select.addEventListener('change', () => clip && show(at));

function sheetOf(address) {
  return new Promise((loaded, failed) => {
    const image = new Image();
    image.onload = () => loaded(image);
    image.onerror = () => failed(new Error('a clip did not load'));
    image.src = address;
  });
}

async function load() {
  if (!props.value) return;
  const next = JSON.parse(props.value), same = clip && clip.id === next.id;
  const missing = Object.entries(next.sheets).filter(([role]) => !(same && sheets[role]));
  const images = await Promise.all(missing.map(async ([role, a]) => [role, await sheetOf(a)]));
  if (JSON.parse(props.value).id !== next.id) return; // another clip came meanwhile
  if (!same) for (const role of Object.keys(sheets)) delete sheets[role]; // of the clip before
  Object.assign(sheets, Object.fromEntries(images));
  if (!same) {
    for (const canvas of all('[data-role], [data-wipe]')) Object.assign(canvas, {width: next.width, height: next.height});
    for (const canvas of all('[data-slice]')) Object.assign(canvas, {width: next.width, height: next.count * BAND});
    for (const svg of all('[data-tracks]')) svg.setAttribute('viewBox', `0 0 ${next.width} ${next.height}`);
    row.max = next.height - 1;
    row.value = next.row;
    slider.max = next.count - 1;
    line.style.setProperty('--half', 50 / next.count + '%');
    element.style.setProperty('--shape', `${next.width} / ${next.height}`);
  }
  const value = JSON.parse(props.value); // the scores may have come while the sheets were fetched
  const far = clip && !same && clip.count !== value.count;
  clip = value;
  curves.innerHTML = clip.curves;
  find('empty')?.remove();
  slice();
  show(far ? 0 : at);
  if (!same && element.clientWidth < 560) element.scrollIntoView({block: 'start'}); // below its form on a phone
  element.dataset.clip = clip.id;
}

watch('value', load);
wiping();
load();
