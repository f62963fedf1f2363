// Curves of runs, drawn by Gradio's own plotly: props.value is the JSON of charts.py, props.library the file it lies in.
// Smoothing and the CSV are made here, of what is drawn.

const find = name => element.querySelector('.fs-train-' + name);
const [home, key, smooth, smoothness, save] = ['charts', 'key', 'smooth', 'smoothness', 'csv'].map(find);
const INK = '#737d89', RULE = 'rgba(128, 138, 150, 0.25)';
const SIGNS = {circle: '●', square: '■', diamond: '◆', 'triangle-up': '▲', x: '✖', star: '★'};
const ENDS = {blank: ['blank page', 'dot'], oracle: ['oracle', 'dash']};
const library = (async () => {
  const own = document.querySelector('script[type="module"][src*="assets/"]');
  await import(new URL(props.library, own ? own.src : document.baseURI + 'assets/'));
  return window.Plotly;
})();
let value = {lines: [], charts: []};

// An exponential moving average that forgets its start, as TensorBoard's.
function averaged(points, weight) {
  let sum = 0, total = 0;
  return points.map(([step, y]) => {
    [sum, total] = [weight * sum + (1 - weight) * y, weight * total + 1 - weight];
    return [step, sum / total];
  });
}

const number = y => y === null ? '–' : y && Math.abs(y) < 1e-3 ? y.toExponential(1) : y < 1 ? y.toFixed(3) : y.toPrecision(3);
const column = (points, k) => points.map(point => point[k]);

function lossTraces(line, weight) {
  const style = {mode: line.loss.length > 1 ? 'lines' : 'markers', name: line.name, line: {color: line.color, width: 2}};
  const smoothed = averaged(line.loss, weight);
  const raw = {...style, x: column(line.loss, 0), y: column(line.loss, 1), opacity: 0.3, hoverinfo: 'skip'};
  const traces = [{...style, x: raw.x, y: column(smoothed, 1), text: column(smoothed, 1).map(number),
    hovertemplate: `${line.name} %{text}<extra></extra>`}];
  return weight ? [raw, ...traces] : traces;
}

function scoreTrace(line, score) {
  const points = line[score];
  const text = points.map(([, mean, low, high, n]) =>
    `${number(mean)}${low === null ? '' : ` [${number(low)}, ${number(high)}]`}${n === null ? '' : `, n = ${n}`}`);
  const ends = (k, sign) => points.map(point => point[k] === null ? 0 : sign * (point[k] - point[1]));
  return [{x: column(points, 0), y: column(points, 1), text, name: line.name, mode: 'lines+markers',
    line: {color: line.color, width: 2}, marker: {symbol: line.mark, size: 8},
    error_y: {array: ends(3, 1), arrayminus: ends(2, -1), color: line.color, thickness: 1.2, width: 3},
    hovertemplate: `${line.name} %{text}<extra></extra>`}];
}

// A tick at each power of ten where there are some, else as plotly has them.
function decades() {
  const all = value.lines.flatMap(line => column(line.loss, 1)).filter(y => y > 0);
  return Math.max(...all) / Math.min(...all) > 20 ? {dtick: 1} : {};
}

function figure(chart) {
  const weight = Number(smooth.value), isLoss = chart.key === 'loss';
  const data = value.lines.flatMap(line => isLoss ? lossTraces(line, weight) : scoreTrace(line, chart.key));
  const shapes = [], annotations = [];
  for (const [end, [name, dash]] of Object.entries(ENDS)) {
    if (typeof chart[end] !== 'number') continue;
    shapes.push({type: 'line', xref: 'paper', x0: 0, x1: 1, y0: chart[end], y1: chart[end],
      line: {color: INK, width: 1.5, dash}});
    annotations.push({xref: 'paper', x: 1, xanchor: 'right', y: chart[end], yanchor: 'bottom', showarrow: false,
      text: `${name} ${number(chart[end])}`, font: {size: 12}});
  }
  const axis = {gridcolor: RULE, linecolor: RULE, zeroline: false, automargin: true, rangemode: 'tozero'};
  return [data, {template: null, height: 220, margin: {l: 44, r: 8, t: 8, b: 30}, showlegend: false, dragmode: false,
    paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)', hovermode: 'x unified',
    hoverlabel: {bgcolor: getComputedStyle(element).getPropertyValue('--block-background-fill') || 'white'},
    font: {color: INK, size: 12, family: 'system-ui, sans-serif'}, shapes, annotations,
    xaxis: {...axis, nticks: 5}, yaxis: isLoss ? {...axis, type: 'log', rangemode: 'normal', ...decades()} : axis}];
}

function stageOf(chart) {
  let stage = home.querySelector(`[data-chart="${chart.key}"]`);
  if (!stage) {
    stage = document.createElement('figure');
    stage.dataset.chart = chart.key;
    stage.innerHTML = '<figcaption></figcaption><div role="img"></div>';
    home.append(stage);
  }
  const last = value.lines.map(line => line[chart.key].at(-1)).map(point => point ? number(point[1]) : '–');
  const n = value.lines[0]?.[chart.key].at(-1)?.[4];
  stage.firstChild.textContent = chart.title + (n ? `, n = ${n}` : '');
  const now = document.createElement('b');
  now.textContent = last[0];
  if (last.length === 1) stage.firstChild.append(' ', now);
  stage.lastChild.setAttribute('aria-label', `${chart.title} ${chart.on || ''} against steps; last: ` +
    (value.lines.map((line, i) => `${line.name} ${last[i]}`).join(', ') || 'nothing yet') +
    Object.entries(ENDS).map(([end, [name]]) => typeof chart[end] === 'number' ? `; ${name} ${number(chart[end])}` : ''));
  return stage.lastChild;
}

async function draw() {
  value = JSON.parse(props.value || '{"lines": [], "charts": []}');
  smoothness.textContent = Number(smooth.value) ? smooth.value : 'none';
  element.querySelector('.fs-train-tools').hidden = !value.lines.length;
  const keys = value.charts.map(chart => chart.key);
  for (const old of [...home.children]) if (!keys.includes(old.dataset.chart)) old.remove();
  const stages = value.charts.map(chart => [chart, stageOf(chart)]);
  key.replaceChildren(...value.lines.map(line => {
    const item = document.createElement('li'), sign = document.createElement('span');
    sign.textContent = SIGNS[line.mark];
    sign.style.color = line.color;
    item.append(sign, ` ${line.name}`);
    return item;
  }));
  const plotly = await library;
  for (const [chart, stage] of stages) // as long as no later drawing has taken it away
    if (stage.isConnected) plotly.react(stage, ...figure(chart), {responsive: true, displayModeBar: false});
}

const quoted = text => /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;

save.addEventListener('click', () => {
  const rows = value.lines.flatMap(line => value.charts.flatMap(chart => line[chart.key].map(
    ([step, ...rest]) => [quoted(line.run), quoted(line.adapter), chart.key, step, ...rest].join(','))));
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob(['run,adapter,value,step,mean,low,high,n\n', rows.join('\n'), '\n'],
    {type: 'text/csv'}));
  link.download = 'curves.csv';
  link.click();
  URL.revokeObjectURL(link.href);
});
smooth.addEventListener('input', draw);
watch('value', draw);
library.catch(() => { home.textContent = 'The drawing library did not load: reload the page.'; });
draw();
