// One plot: draws props.value (a figure's json) into the node that is there, at each change.
// STAYS, defined before this script, is plotly's configuration that keeps pictures on this machine.
// A figure may bring frames ({traces, data}), the number of the one it shows, and the milliseconds of a
// glide: the event `frame` with another number (and other milliseconds) glides there, in the browser alone.
const host = element.querySelector('.live-plot');
const height = parseFloat(host.style.height);
const lasso = element.querySelector('button.lasso');
let mode = null;  // what a drag does where a visitor chose it; null: what the figure says
const still = window.matchMedia('(prefers-reduced-motion: reduce)');
let drawn = false, busy = false, again = false;
let frames = [], glideTime = 0, at = null, wanted = null, gliding = false;

function dressed(figure) {
  const dark = document.body.classList.contains('dark');
  const layout = Object.assign({autosize: true, uirevision: 'keep'}, figure.layout,
    {paper_bgcolor: 'rgba(0,0,0,0)', plot_bgcolor: 'rgba(0,0,0,0)'});
  layout.font = Object.assign({family: 'system-ui, sans-serif'}, layout.font, {color: dark ? '#e5e7eb' : '#1f2937'});
  layout.hoverlabel = Object.assign({}, layout.hoverlabel,
    {bgcolor: dark ? '#1f2937' : '#ffffff', bordercolor: '#94a3b8',
     font: {size: isLarge() ? 12 * LARGE : 12, color: dark ? '#f1f5f9' : '#0f172a'}});
  // Plotly cannot glide between two and three dimensions, and between many points it takes too long.
  const turned = drawn && Boolean(host.layout.scene) !== Boolean(layout.scene);
  const many = figure.data.reduce((sum, trace) => sum + (trace.x?.length || 0), 0) > 800;
  // During a glide plotly keeps the old range of an axis that has no fixed one.
  const free = Object.entries(layout).some(([key, axis]) => /^[xy]axis\d*$/.test(key) && !axis.range);
  if (still.matches || turned || many || free) delete layout.transition;
  // A finger scrolls the page; it does not draw a box.
  if (window.matchMedia('(pointer: coarse)').matches) layout.dragmode = false;
  if (mode) layout.dragmode = mode;
  layout.selections = [];  // the points stay selected; the outline belongs to the view it was drawn in
  // uirevision does not keep a 3-D camera through Plotly.react.
  const old = (drawn && host.layout) || {};
  for (const key of Object.keys(old))
    if (/^scene\d*$/.test(key) && old[key].camera && layout[key])
      layout[key] = Object.assign({}, layout[key], {camera: old[key].camera});
  return layout;
}

const LARGE = 1.3;  // letters, marks and margins in large type
const isLarge = () => document.body.classList.contains('large-type') && matchMedia('(min-width: 641px)').matches;
const scaled = size => Array.isArray(size) ? size.map(scaled) : typeof size === 'number' ? size * LARGE : size;
const DATA = ['x', 'y', 'z', 'text', 'meta', 'customdata', 'frames'];

function enlarge(told) {
  for (const [key, value] of Object.entries(told)) {
    if (DATA.includes(key) || value === null || typeof value !== 'object') continue;
    if ((/font$/.test(key) || key === 'marker') && 'size' in value) value.size = scaled(value.size);
    if (key === 'margin') for (const side of ['l', 'r', 't', 'b']) value[side] = scaled(value[side]);
    if (!Array.isArray(value) || value[0]?.constructor === Object) enlarge(value);
  }
}

async function render() {
  const figure = JSON.parse(props.value);
  figure.layout.font = Object.assign({size: 12}, figure.layout.font);  // plotly's own, so that it can be scaled
  if (isLarge()) enlarge(figure);
  host.style.height = `${height * (isLarge() ? LARGE : 1)}px`;
  frames = figure.frames || [];
  glideTime = figure.glide || 0;
  delete figure.frames;
  if (!(at in frames)) at = figure.at ?? null;
  if (at in frames) frames[at].traces.forEach((trace, k) => Object.assign(figure.data[trace], frames[at].data[k]));
  const config = {...STAYS, responsive: true, doubleClick: 'reset', displaylogo: false, scrollZoom: false,
    modeBarButtonsToRemove: ['toImage', 'select2d', 'lasso2d', 'autoScale2d', 'hoverClosestCartesian', 'hoverCompareCartesian',
      'toggleSpikelines', 'zoom2d', 'pan2d', 'zoom3d', 'pan3d', 'orbitRotation', 'tableRotation',
      'hoverClosest3d', 'resetCameraLastSave3d']};
  await Plotly.react(host, figure.data, dressed(figure), config);
  if (lasso) lasso.disabled = Boolean(figure.layout.scene);
  if (drawn) return;
  drawn = true;
  host.on('plotly_click', event => {
    const point = event.points[0];
    trigger('point_click', {customdata: point.customdata ?? null, more: Boolean(event.event?.shiftKey)});
  });
  if (lasso) {
    const tell = points => trigger('points_select', {keys: points.map(p => p.customdata?.[3]).filter(Boolean)});
    host.on('plotly_selected', event => { if (event) tell(event.points); });
    host.on('plotly_deselect', () => tell([]));
  }
  new ResizeObserver(() => { if (element.offsetParent) Plotly.Plots.resize(host); }).observe(element);
  new MutationObserver(draw).observe(document.body, {attributeFilter: ['class']});
}

// What a frame moves: the nodes of its traces, from where they are to where they shall be, in pixels. Null
// where they do not fit together. Plotly.animate would style every point anew, at twice to three times the cost.
function moves(frame) {
  const groups = new Map([...host.querySelectorAll('.scatterlayer .trace')].map(g => [g.__data__[0].trace.index, g]));
  const found = [];
  for (const [k, trace] of frame.traces.entries()) {
    const group = groups.get(trace), records = host.calcdata[trace], {x, y} = frame.data[k];
    if (!group || records.length !== x.length) return null;
    const full = records[0].trace, axis = name => host._fullLayout[name.replace(/^[xy]/, letter => `${letter}axis`)];
    const across = axis(full.xaxis), up = axis(full.yaxis);
    const points = [...group.querySelectorAll('path.point')], line = group.querySelector('path.js-line');
    if (full.mode.includes('markers') ? points.length !== x.length : full.mode.includes('lines') && !line) return null;
    found.push({trace, records, x, y, across, up, points, line, texts: [...group.querySelectorAll('.textpoint text')],
      from: records.map(r => [across.c2p(r.x), up.c2p(r.y)]), to: x.map((v, n) => [across.d2p(v), up.d2p(y[n])])});
  }
  return found;
}

function move(found, share) {
  for (const {points, texts, line, from, to} of found) {
    const now = from.map(([x, y], n) => [x + share * (to[n][0] - x), y + share * (to[n][1] - y)]);
    for (const node of points) node.setAttribute('transform', `translate(${now[node.__data__.i]})`);
    for (const node of texts) {
      const [x, y] = now[node.parentNode.__data__.i];
      node.setAttribute('x', x); node.setAttribute('y', y);
    }
    if (line) line.setAttribute('d', `M${now.join('L')}`);
  }
}

// Numbers that come faster than they can be drawn are passed over, all but the last.
async function glide(number, slowly) {
  wanted = number;
  if (gliding) return;
  gliding = true;
  try {
    while (wanted !== null) {
      at = wanted;
      wanted = null;
      if (!(at in frames)) continue;  // a figure that is still to come begins there
      const began = performance.now(), duration = still.matches ? 0 : glideTime && slowly || glideTime;
      const found = drawn && !busy ? moves(frames[at]) : null;
      if (!found) { if (drawn) draw(); continue; }
      for (let share = 0; share < 1;) {
        const now = await new Promise(requestAnimationFrame);
        share = duration ? Math.min(1, Math.max(0, (now - began) / duration)) : 1;
        move(found, share * share * (3 - 2 * share));
      }
      for (const {trace, records, x, y, across, up} of found) {  // for hover, zoom and whoever reads the plot
        records.forEach((record, n) => Object.assign(record, {x: across.d2c(x[n]), y: up.d2c(y[n])}));
        Object.assign(host.data[trace], {x, y});
      }
    }
  } finally { gliding = false; }
}
host.addEventListener('frame', event => glide(event.detail.number, event.detail.slowly));

async function draw() {
  if (!element.isConnected) return;
  if (!props.value) { if (drawn) Plotly.react(host, [], {}); return; }
  if (typeof Plotly === 'undefined') { setTimeout(draw, 50); return; }
  if (busy) { again = true; return; }
  busy = true;
  try {
    do { again = false; await render(); await new Promise(done => setTimeout(done, 220)); } while (again);
  } finally { busy = false; }
}

if (lasso) lasso.addEventListener('click', () => {
  mode = mode ? null : 'lasso';
  lasso.setAttribute('aria-pressed', mode ? 'true' : 'false');
  const usual = window.matchMedia('(pointer: coarse)').matches ? false : 'zoom';
  if (drawn) Plotly.relayout(host, {dragmode: mode || usual});
});

// Downloads: made here, from what is drawn; nothing is asked of the server but plotly itself, which is there.
function onPaper() {  // dark letters on white in either theme; as large as they are on the screen
  const layout = Object.assign({}, host.layout, {paper_bgcolor: '#ffffff', plot_bgcolor: '#ffffff'});
  layout.font = Object.assign({}, layout.font, {color: '#1f2937'});
  for (const key of ['transition', 'width', 'height']) delete layout[key];
  return {data: host.data, layout};
}

function plain(told) {  // a label as it was typed: labels are html
  const area = document.createElement('textarea');
  area.innerHTML = String(told ?? '').replace(/<br>/g, ' ');
  return area.value;
}

function cell(value) {
  if (typeof value === 'number') return String(value);
  let told = plain(value);
  if (/^[=+\-@\t\r\n＝＋－＠]/.test(told)) told = `'${told}`;  // a spreadsheet would run it as a formula
  return /[",\r\n]/.test(told) ? `"${told.replaceAll('"', '""')}"` : told;
}

function table() {
  const name = key => plain(host.layout[key]?.title?.text ?? host.layout.scene?.[key]?.title?.text ?? key[0]);
  const deep = host.data.some(trace => trace.z && trace.type === 'scatter3d');
  const head = ['group', name('xaxis'), name('yaxis'), ...(deep ? [name('zaxis')] : []), 'label', 'details'];
  const maps = host.data.filter(trace => trace.type === 'heatmap');
  if (maps.length) head.splice(3, 2, 'value');
  const rows = [head];
  for (const {name: what, x, y, z} of maps)  // a row a cell
    y.forEach((up, r) => x.forEach((across, c) => rows.push([what, across, up, z[r][c] ?? ''])));
  for (const trace of host.data) {
    if (maps.includes(trace)) continue;
    if (trace.type === 'contour' || trace.visible === false || !trace.x) continue;
    for (let n = 0; n < trace.x.length; n++) {
      if (trace.x[n] === null || trace.y?.[n] === null) continue;
      const label = Array.isArray(trace.text) ? trace.text[n] : '';
      const details = [trace.customdata?.[n] ?? ''].flat();
      rows.push([trace.name ?? '', trace.x[n], trace.y?.[n] ?? '', ...(deep ? [trace.z?.[n] ?? ''] : []), label, ...details]);
    }
  }
  return '\ufeff' + rows.map(row => row.map(cell).join(',')).join('\r\n') + '\r\n';
}

async function standAlone() {
  const source = await (await fetch([...document.scripts].find(s => s.src.endsWith('plotly.min.js')).src)).text();
  const open = '<' + 'script>', close = '<' + '/script>';  // this text stands in a script of the page itself
  const script = source.replaceAll(close.slice(0, -1), '<\\/' + 'script');
  const figure = JSON.stringify(onPaper()).replaceAll('<', '\\u003c');
  const title = document.createElement('i');
  title.textContent = host.getAttribute('aria-label');
  return `<!doctype html><html lang='en'><meta charset='utf-8'><title>${title.innerHTML}</title>` +
    `<div id='plot' style='height:96vh'></div>${open}${script}${close}` +
    `${open}const figure = ${figure}; Plotly.newPlot('plot', figure.data, figure.layout, ${JSON.stringify({...STAYS, responsive: true})});${close}</html>`;
}

function save(content, kind, filename) {
  const link = Object.assign(document.createElement('a'), {download: filename,
    href: URL.createObjectURL(new Blob([content], {type: `${kind};charset=utf-8`}))});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

element.addEventListener('click', async event => {
  const kind = event.target.closest?.('button[data-take]')?.dataset.take;
  if (!kind || !drawn) return;
  const filename = element.querySelector('[data-file]')?.dataset.file || 'figure';
  if (kind === 'csv') save(table(), 'text/csv', `${filename}.csv`);
  else if (kind === 'html') save(await standAlone(), 'text/html', `${filename}.html`);
  else await Plotly.downloadImage(onPaper(), {format: kind, filename, width: host.clientWidth,
    height: host.clientHeight, scale: kind === 'png' ? 2 : 1});
  event.target.closest('details').open = false;
});

watch('value', draw);
draw();
