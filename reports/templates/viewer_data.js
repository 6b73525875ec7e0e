// The cases that the page holds, and one of them unpacked: image, reference and a mask an arm, (X, Y, Z) each.

const facts = JSON.parse(document.getElementById('facts').textContent);

async function unpack(number) {
  const text = document.getElementById(`case-${number}`).textContent.trim();
  const packed = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('deflate'));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const about = facts.cases[number];
  const length = about.size[0] * about.size[1] * about.size[2];
  if (bytes.length !== length * (2 + about.arms.length)) {
    throw new Error(`case ${about.name}: ${bytes.length} bytes, not ${2 + about.arms.length} volumes of ${length}`);
  }
  const part = (place) => bytes.subarray(place * length, (place + 1) * length);
  return { about, image: part(0), reference: part(1), masks: about.arms.map((_, arm) => part(arm + 2)) };
}

// The body's axes x (to the right), y (to the front), z (up). A plane has one across the screen and one up it.
const PLANES = [
  { name: 'Axial', through: 2, across: 0, up: 1, ends: ['L', 'R', 'A', 'P'] },
  { name: 'Coronal', through: 1, across: 0, up: 2, ends: ['L', 'R', 'S', 'I'] },
  { name: 'Sagittal', through: 0, across: 1, up: 2, ends: ['P', 'A', 'S', 'I'] },
];

// A slice as rows from the top of the screen.
function cut(volume, size, plane, at) {
  const step = [size[1] * size[2], size[2], 1];
  const width = size[plane.across], height = size[plane.up];
  const out = new Uint8Array(width * height);
  for (let row = 0; row < height; row += 1) {
    const start = at * step[plane.through] + (height - 1 - row) * step[plane.up];
    for (let column = 0; column < width; column += 1) {
      out[row * width + column] = volume[start + column * step[plane.across]];
    }
  }
  return { width, height, values: out };
}

// The voxel to open a case at: by axis, the slice in which arms disagree most; failing that, with most reference.
function worthSeeing(data) {
  const size = data.about.size;
  const counts = size.map((side) => ({ apart: new Uint32Array(side), inside: new Uint32Array(side) }));
  for (let voxel = 0; voxel < data.image.length; voxel += 1) {
    const apart = data.masks.some((mask) => mask[voxel] !== data.masks[0][voxel]);
    const inside = data.reference[voxel] > 0;
    if (!apart && !inside) continue;
    const z = voxel % size[2], y = Math.floor(voxel / size[2]) % size[1];
    [Math.floor(voxel / size[2] / size[1]), y, z].forEach((at, axis) => {
      counts[axis].apart[at] += apart ? 1 : 0;
      counts[axis].inside[at] += inside ? 1 : 0;
    });
  }
  return counts.map(({ apart, inside }) => {
    const chosen = Math.max(...apart) > 0 ? apart : inside;
    const most = Math.max(...chosen);
    return most > 0 ? chosen.indexOf(most) : chosen.length >> 1;
  });
}
