// Draws a list of charts with Gradio's own plotly: props.value is JSON [{title, figure, places}], props.library the
// file it lies in. A click on a point that has a place, [point, adapter], sends click {point, adapter}; a list below
// each chart does the same for the keyboard.

const home = element.querySelector('.fs-findings-charts');
const library = (async () => {
  const own = document.querySelector('script[type="module"][src*="assets/"]');
  await import(new URL(props.library, own ? own.src : document.baseURI + 'assets/'));
  return window.Plotly;
})();

function open(place) {
  if (place) trigger('click', {point: place[0], adapter: place[1]});
}

function chart(one) {
  const figure = document.createElement('figure');
  figure.innerHTML = '<figcaption></figcaption><div class="fs-findings-plot" role="img"></div>';
  figure.firstChild.textContent = one.title;
  figure.lastChild.setAttribute('aria-label', one.title);
  const places = one.places.flat().filter(Boolean);
  if (places.length) {
    const select = document.createElement('select');
    const offered = new Map(places.map(place => [place.join(' '), place]));
    select.setAttribute('aria-label', 'Open a point of this chart in Inspect');
    select.append(new Option('Open in Inspect …', ''), ...[...offered.keys()].map(text => new Option(text, text)));
    select.addEventListener('change', () => { open(offered.get(select.value)); select.value = ''; });
    figure.append(select);
  }
  home.append(figure);
  return figure.children[1];
}

// A legend too long for one line takes two columns where there is room, and lines of its own, not the plot's height.
function spread({data, layout}, width) {
  const names = layout.showlegend ? data.map(trace => trace.name) : [];
  if (names.reduce((sum, name) => sum + 45 + 7 * name.length, 70) < width) return layout;
  const columns = width > 500 ? 2 : 1;
  const legend = {...layout.legend, entrywidth: 0.88 / columns, entrywidthmode: 'fraction'};
  return {...layout, legend, height: layout.height + 19 * (Math.ceil(names.length / columns) - 1)};
}

async function draw() {
  const charts = JSON.parse(props.value || '[]');
  home.replaceChildren();
  const stages = charts.map(chart);
  const plotly = await library;
  charts.forEach((one, i) => {
    if (!stages[i].isConnected) return;
    const layout = spread(one.figure, stages[i].clientWidth);
    plotly.newPlot(stages[i], one.figure.data, layout, {responsive: true, displayModeBar: false});
    stages[i].on('plotly_click', event => {
      const {curveNumber, pointNumber} = event.points[0];
      open(one.places[curveNumber]?.[pointNumber]);
    });
  });
}

watch('value', draw);
library.catch(() => { home.textContent = 'The drawing library did not load: reload the page.'; });
draw();
