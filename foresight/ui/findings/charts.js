// Draws a list of charts with Gradio's own plotly: props.value is JSON [{title, figure, places}], props.library the
// file it lies in. A click on a point whose place is known sends click {point, adapter}; a list below each chart does
// the same for the keyboard.

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
    const told = [...new Set(places.map(place => place.filter(Boolean).join(' ')))];
    select.setAttribute('aria-label', 'Open a point of this chart in Inspect');
    select.append(new Option('Open in Inspect …', ''), ...told.map(text => new Option(text, text)));
    select.addEventListener('change', () => { if (select.value) open(select.value.split(' ')); select.value = ''; });
    figure.append(select);
  }
  home.append(figure);
  return figure.children[1];
}

async function draw() {
  const charts = JSON.parse(props.value || '[]');
  home.replaceChildren();
  const stages = charts.map(chart);
  const plotly = await library;
  charts.forEach((one, i) => {
    if (!stages[i].isConnected) return;
    plotly.newPlot(stages[i], one.figure.data, one.figure.layout, {responsive: true, displayModeBar: false});
    stages[i].on('plotly_click', event => {
      const {curveNumber, pointNumber} = event.points[0];
      open(one.places[curveNumber]?.[pointNumber]);
    });
  });
}

watch('value', draw);
library.catch(() => { home.textContent = 'The drawing library did not load: reload the page.'; });
draw();
