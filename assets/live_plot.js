// One plot: draws props.value (a figure's json) into the node that is there, at each change.
// A figure may bring frames ({traces, data}), the number of the one it shows, and the milliseconds of a
// glide: the event `frame` with another number glides there, in the browser alone.
const host = element.querySelector('.live-plot');
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
     font: {size: 12, color: dark ? '#f1f5f9' : '#0f172a'}});
  if (still.matches) delete layout.transition;
  // A finger scrolls the page; it does not draw a box.
  if (window.matchMedia('(pointer: coarse)').matches) layout.dragmode = false;
  // uirevision does not keep a 3-D camera through Plotly.react.
  const old = (drawn && host.layout) || {};
  for (const key of Object.keys(old))
    if (/^scene\d*$/.test(key) && old[key].camera && layout[key])
      layout[key] = Object.assign({}, layout[key], {camera: old[key].camera});
  return layout;
}

async function render() {
  const figure = JSON.parse(props.value);
  frames = figure.frames || [];
  glideTime = figure.glide || 0;
  delete figure.frames;
  if (!(at in frames)) at = figure.at ?? null;
  if (at in frames) frames[at].traces.forEach((trace, k) => Object.assign(figure.data[trace], frames[at].data[k]));
  const config = {responsive: true, displaylogo: false, scrollZoom: false,
    modeBarButtonsToRemove: ['toImage', 'select2d', 'lasso2d', 'autoScale2d', 'hoverClosestCartesian', 'hoverCompareCartesian',
      'toggleSpikelines', 'zoom2d', 'pan2d', 'zoom3d', 'pan3d', 'orbitRotation', 'tableRotation',
      'hoverClosest3d', 'resetCameraLastSave3d']};
  await Plotly.react(host, figure.data, dressed(figure), config);
  if (drawn) return;
  drawn = true;
  host.on('plotly_click', event => {
    const point = event.points[0];
    trigger('point_click', {customdata: point.customdata ?? null});
  });
  new ResizeObserver(() => { if (element.offsetParent) Plotly.Plots.resize(host); }).observe(element);
  new MutationObserver(draw).observe(document.body, {attributeFilter: ['class']});
}

// Numbers that come faster than they can be drawn are passed over, all but the last.
async function glide(number) {
  wanted = number;
  if (gliding) return;
  gliding = true;
  try {
    while (wanted !== null) {
      const next = wanted;
      wanted = null;
      at = next;
      if (!(at in frames)) continue;  // a figure that is still to come begins there
      if (!drawn || busy) { again = true; continue; }  // the next drawing begins at `at`
      const duration = still.matches ? 0 : glideTime;
      const moved = Plotly.animate(host, {data: frames[at].data, traces: frames[at].traces},
        {mode: 'immediate', transition: {duration, easing: 'cubic-in-out'}, frame: {duration, redraw: false}});
      // A drawing in between ends a glide without a word.
      await Promise.race([moved.catch(() => {}), new Promise(done => setTimeout(done, 600))]);
    }
  } finally { gliding = false; }
}
host.addEventListener('frame', event => glide(event.detail));

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

watch('value', draw);
draw();
