// Tables sort by a click on a column's name, each group of rows by itself. A third click gives the order back.

// The arms in reading order: as the page's first tables name them.
const arms = new Map();
for (const table of document.querySelectorAll('table')) {
  const column = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent === 'Arm');
  for (const row of column < 0 ? [] : table.querySelectorAll('tbody tr:not(.group)')) {
    const name = row.cells[column].textContent;
    if (!arms.has(name)) arms.set(name, arms.size);
  }
}

// `0.743 ± 0.051`, `−0.012`, `7,890–9,001`, `5 of 6`: by the first number. null where there is none.
function numberIn(text) {
  const found = text.replaceAll(',', '').replaceAll('−', '-').match(/-?\d+(\.\d+)?(e[-+]?\d+)?/i);
  return found ? Number(found[0]) : null;
}

function valueOf(row, column, kind) {
  const text = row.cells[column].firstChild ? row.cells[column].firstChild.textContent.trim() : '';
  if (kind === 'arm') return arms.get(row.cells[column].textContent) ?? null;
  if (kind === 'number') return numberIn(text);
  return text && text !== '–' && text !== 'unknown' ? text : null;
}

function compare(a, b) {
  return typeof a === 'string' ? a.localeCompare(b, 'en', { numeric: true }) : a - b;
}

// What is missing comes last in either direction, and equals stay as they were first.
function sortBody(body, column, kind, direction) {
  const rows = [...body.rows].filter((row) => !row.classList.contains('group'));
  const keyed = rows.map((row) => ({ row, value: direction === 'none' ? null : valueOf(row, column, kind) }));
  const sign = direction === 'descending' ? -1 : 1;
  keyed.sort((a, b) => {
    if (a.value === null || b.value === null) {
      return (a.value === null) - (b.value === null) || a.row.dataset.place - b.row.dataset.place;
    }
    return sign * compare(a.value, b.value) || a.row.dataset.place - b.row.dataset.place;
  });
  body.append(...keyed.map(({ row }) => row));
}

for (const table of document.querySelectorAll('table')) {
  const bodies = [...table.tBodies];
  if (bodies.every((body) => body.querySelectorAll('tr:not(.group)').length < 2)) continue;
  bodies.forEach((body) => [...body.rows].forEach((row, place) => { row.dataset.place = place; }));
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const kind = head.textContent === 'Arm' ? 'arm' : head.classList.contains('number') ? 'number' : 'text';
    const turns = kind === 'number' ? ['descending', 'ascending', 'none'] : ['ascending', 'descending', 'none'];
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'sort';
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute('aria-sort', 'none');
    button.addEventListener('click', () => {
      const now = turns[(turns.indexOf(head.getAttribute('aria-sort')) + 1) % turns.length];
      heads.forEach((other) => other.setAttribute('aria-sort', other === head ? now : 'none'));
      bodies.forEach((body) => sortBody(body, column, kind, now));
    });
  });
}
