// Ctrl+Enter (or ⌘+Enter) presses the button that runs what the focus is in, Escape the one that stops it.
document.addEventListener('keydown', event => {
  const runs = event.key === 'Enter' && (event.ctrlKey || event.metaKey);
  const stops = event.key === 'Escape' && !event.ctrlKey && !event.metaKey && !event.altKey;
  if (!(runs || stops) || event.isComposing || event.defaultPrevented || event.repeat) return;
  const from = event.target;
  if (stops && from.getAttribute?.('aria-expanded') === 'true') return; // it closes a list
  const usable = button => button.offsetParent !== null && !button.disabled;
  // The nearest one: what is around the focus, then the open tab.
  for (let place = from; place; place = place.parentElement) {
    const found = [...place.querySelectorAll(runs ? 'button.primary' : 'button.stop')].filter(usable);
    const button = found.find(each => each.matches('#ask, #start, #evaluate, #load, #tour-check')) || found[0];
    if (!button) continue;
    event.preventDefault();
    if (from.matches('input')) { // a number counts once its field is left
      from.blur();
      from.focus();
    }
    setTimeout(() => button.click(), 50);
    return;
  }
});
