// The table of runs and adapters: props.value is its HTML, drawn into a box that keeps its place, order and focus while
// runs report. Sends click {run, adapter} of a name, and select {run, on} of a box.

const home = element.querySelector('.fs-train-table');
let order = {column: null, down: false};

const valueOf = (row, place) => row.cells[place].dataset.value ?? '';

function sort() {
  const heads = [...home.querySelectorAll('thead th')], body = home.querySelector('tbody');
  const place = heads.findIndex(head => head.querySelector(`[data-sort="${order.column}"]`));
  heads.forEach((head, i) => head.setAttribute('aria-sort', i !== place ? 'none' : order.down ? 'descending' : 'ascending'));
  if (place < 0) return;
  const compare = (a, b) => {
    const [x, y] = [valueOf(a, place), valueOf(b, place)];
    if (!x || !y) return Boolean(y) - Boolean(x); // what has none comes last either way
    const by = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
    return order.down ? -by : by;
  };
  body.append(...[...body.rows].sort(compare));
}

function draw() {
  const key = home.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  home.innerHTML = props.value || '';
  sort();
  if (key) home.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({preventScroll: true});
}

home.addEventListener('click', event => {
  const button = event.target.closest('button');
  if (!button) return;
  const {sort: column, run, adapter} = button.dataset;
  if (!column) return trigger('click', {run: run ?? null, adapter: adapter ?? null});
  order = {column, down: order.column === column && !order.down};
  sort();
});
home.addEventListener('change', event => {
  const {compare} = event.target.dataset;
  if (compare) trigger('select', {run: compare, on: event.target.checked});
});
watch('value', draw);
draw();
