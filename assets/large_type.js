// Large type, for a projector: a button turns it on and off, the browser remembers it.
(() => {
  const kept = 'dro-large-type';
  const remembered = () => { try { return localStorage.getItem(kept) === 'yes'; } catch { return false; } };
  const show = on => {
    document.body.classList.toggle('large-type', on);
    document.getElementById('large-type')?.setAttribute('aria-pressed', String(on));
  };
  document.addEventListener('click', event => {
    if (!event.target.closest?.('#large-type')) return;
    const on = !document.body.classList.contains('large-type');
    show(on);
    try { localStorage.setItem(kept, on ? 'yes' : 'no'); } catch { /* it is on for this visit */ }
  });
  const begin = () => {
    show(remembered());
    // The button is drawn later than the page.
    const drawn = new MutationObserver(() => {
      if (!document.getElementById('large-type')) return;
      drawn.disconnect();
      show(document.body.classList.contains('large-type'));
    });
    drawn.observe(document.body, {childList: true, subtree: true});
  };
  document.readyState === 'loading' ? document.addEventListener('DOMContentLoaded', begin) : begin();
})();
