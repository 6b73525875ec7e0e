// What a cell says when it is pointed at or touched; a button of the table writes it into every cell instead.

const bubble = document.createElement('div');
bubble.className = 'bubble';
bubble.setAttribute('role', 'tooltip');
bubble.hidden = true;
document.body.append(bubble);

function tell(cell) {
  bubble.hidden = !cell;
  if (!cell) return;
  bubble.textContent = cell.dataset.hover;
  const box = cell.getBoundingClientRect();
  const wide = bubble.offsetWidth, tall = bubble.offsetHeight;
  const above = box.top > tall + 12;
  bubble.style.left = `${Math.max(8, Math.min(box.right - wide, document.documentElement.clientWidth - wide - 8))}px`;
  bubble.style.top = `${above ? box.top - tall - 4 : box.bottom + 4}px`;
}

for (const table of document.querySelectorAll('table')) {
  const cells = table.querySelectorAll('td[title]');
  if (!cells.length) continue;
  for (const cell of cells) { // the browser's own hint would stand beside ours
    cell.dataset.hover = cell.title;
    cell.setAttribute('aria-description', cell.title);
    cell.removeAttribute('title');
  }
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'intervals';
  const show = (shown) => {
    table.classList.toggle('told', shown);
    button.setAttribute('aria-pressed', shown);
    button.textContent = shown ? 'Hide intervals' : 'Show intervals';
  };
  button.addEventListener('click', () => show(!table.classList.contains('told')));
  show(false);
  table.closest('figure').insertBefore(button, table.parentElement);
  const over = (event) => tell(table.classList.contains('told') ? null : event.target.closest('td[data-hover]'));
  table.addEventListener('pointerover', over);
  table.addEventListener('click', over);
  table.addEventListener('pointerleave', () => tell(null));
}
addEventListener('scroll', () => tell(null), { capture: true, passive: true });
addEventListener('keydown', (event) => { if (event.key === 'Escape') tell(null); });
