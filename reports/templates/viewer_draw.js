// One plane on a canvas: the slice in grey, the reference filled lightly, every shown arm as an outline.

const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3], [14, 4], [5, 2, 1, 2, 1, 2]];
const colourOf = (label) => facts.colours[(label - 1) % facts.colours.length];

function toCanvas(slice, paint) {
  const canvas = document.createElement('canvas');
  canvas.width = slice.width;
  canvas.height = slice.height;
  const pen = canvas.getContext('2d');
  const picture = pen.createImageData(slice.width, slice.height);
  slice.values.forEach((value, place) => picture.data.set(paint(value), 4 * place));
  pen.putImageData(picture, 0, 0);
  return canvas;
}

// The outlines of a label as closed loops of corners, so that dashes run along them. Each side of a pixel that has the
// label on one hand only is a step from corner to corner, with the label to its right.
function loops(slice, label) {
  const { width, height, values } = slice;
  const has = (x, y) => x >= 0 && y >= 0 && x < width && y < height && values[y * width + x] === label;
  const next = new Map();
  const step = (x, y, toX, toY) => {
    const key = y * (width + 1) + x;
    if (!next.has(key)) next.set(key, []);
    next.get(key).push(toY * (width + 1) + toX);
  };
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      if (!has(x, y)) continue;
      if (!has(x, y - 1)) step(x, y, x + 1, y);
      if (!has(x + 1, y)) step(x + 1, y, x + 1, y + 1);
      if (!has(x, y + 1)) step(x + 1, y + 1, x, y + 1);
      if (!has(x - 1, y)) step(x, y + 1, x, y);
    }
  }
  const found = [];
  for (const start of next.keys()) {
    while (next.get(start).length) {
      const loop = [start];
      for (let at = next.get(start).pop(); at !== start; at = next.get(at).pop()) loop.push(at);
      found.push(loop.map((corner) => [corner % (width + 1), Math.floor(corner / (width + 1))]));
    }
  }
  return found;
}

function outline(pen, slice, labels, sx, sy, dash, width) {
  pen.lineJoin = 'round';
  for (let label = 1; label <= labels; label += 1) {
    const path = new Path2D();
    for (const loop of loops(slice, label)) {
      loop.forEach(([x, y], place) => (place ? path.lineTo(x * sx, y * sy) : path.moveTo(x * sx, y * sy)));
      path.closePath();
    }
    pen.setLineDash([]);
    pen.strokeStyle = 'rgba(0, 0, 0, 0.75)';
    pen.lineWidth = width + 1.6;
    pen.stroke(path);
    pen.setLineDash(dash);
    pen.strokeStyle = colourOf(label);
    pen.lineWidth = width;
    pen.stroke(path);
  }
}

function letters(pen, ends, width, height) {
  pen.fillStyle = '#ffffff';
  pen.font = '600 12px system-ui, sans-serif';
  pen.textBaseline = 'middle';
  pen.textAlign = 'center';
  const places = [[9, height / 2], [width - 9, height / 2], [width / 2, 10], [width / 2, height - 10]];
  ends.forEach((letter, end) => pen.fillText(letter, ...places[end]));
}

function cross(pen, x, y, width, height) {
  pen.setLineDash([3, 5]);
  pen.strokeStyle = 'rgba(255, 255, 255, 0.55)';
  pen.lineWidth = 1;
  pen.beginPath();
  pen.moveTo(x, 0);
  pen.lineTo(x, height);
  pen.moveTo(0, y);
  pen.lineTo(width, y);
  pen.stroke();
}

// shown: { reference: bool, arms: [number of an arm, …] in the order of their dashes, cross: bool }
function drawPlane(canvas, data, plane, at, shown) {
  const { size, spacing, labels } = data.about;
  const grey = cut(data.image, size, plane, at[plane.through]);
  const wide = grey.width * spacing[plane.across], tall = grey.height * spacing[plane.up];
  const width = canvas.parentElement.clientWidth;
  const height = Math.max(40, Math.min(Math.round((width * tall) / wide), Math.round(width * 1.25)));
  const dots = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * dots);
  canvas.height = Math.round(height * dots);
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext('2d');
  pen.scale(dots, dots);
  const fit = Math.min(width / wide, height / tall);
  const left = (width - wide * fit) / 2, top = (height - tall * fit) / 2;
  const sx = spacing[plane.across] * fit, sy = spacing[plane.up] * fit;
  pen.save();
  pen.translate(left, top);
  pen.imageSmoothingEnabled = true;
  pen.drawImage(toCanvas(grey, (v) => [v, v, v, 255]), 0, 0, wide * fit, tall * fit);
  if (shown.reference) {
    const slice = cut(data.reference, size, plane, at[plane.through]);
    const hue = ['', ...labels.map((_, place) => colourOf(place + 1))].map((c) => c && parseInt(c.slice(1), 16));
    const fill = (v) => (v && hue[v] !== undefined ? [hue[v] >> 16, (hue[v] >> 8) & 255, hue[v] & 255, 105] : [0, 0, 0, 0]);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(toCanvas(slice, fill), 0, 0, wide * fit, tall * fit);
  }
  shown.arms.forEach((arm, place) => {
    const slice = cut(data.masks[arm], size, plane, at[plane.through]);
    outline(pen, slice, labels.length, sx, sy, DASHES[place % DASHES.length], 1.8);
  });
  const x = (at[plane.across] + 0.5) * sx, y = (grey.height - at[plane.up] - 0.5) * sy;
  if (shown.cross) cross(pen, x, y, wide * fit, tall * fit);
  pen.restore();
  letters(pen, plane.ends, width, height);
  return { left, top, sx, sy, rows: grey.height };
}
