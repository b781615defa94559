"use strict";
// Drawings on canvas: the night, the spectrogram, the phases. Each takes plain numbers; none keeps state.

const STAGES = ["W/N1", "N2", "N3", "R"];
const ROW = { "W/N1": 0, R: 1, N2: 2, N3: 3 };

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function stageColour(stage) {
  return colour({ "W/N1": "wake", N2: "n2", N3: "n3", R: "rem" }[stage] ?? "unknown");
}

// Fit a canvas to its box and the screen's pixels; returns its context in CSS pixels.
function context(canvas) {
  const box = canvas.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
  const width = Math.max(1, Math.round(box.width * ratio)), height = Math.max(1, Math.round(box.height * ratio));
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  const c = canvas.getContext("2d");
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  c.clearRect(0, 0, box.width, box.height);
  c.font = `${10 * typeSize()}px system-ui, sans-serif`;
  return [c, box.width, box.height];
}

function clockText(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  return `${Math.floor(s / 3600)}:${String(Math.floor(s / 60) % 60).padStart(2, "0")}:${String(s % 60).padStart(2, "0")}`;
}

// Local time of day of an ISO stamp, or of ms since 1970.
function wallText(stamp) { return new Date(stamp).toTimeString().slice(0, 8); }

function typeSize() { return Number(getComputedStyle(document.documentElement).getPropertyValue("--type")) || 1; }

function span(seconds) {
  for (const step of [60, 300, 900, 1800, 3600]) if (seconds / step <= 8) return step;
  return 7200;
}

const LEFT = 44;

function timeAxis(c, width, height, first, last, bottom, began) {
  c.strokeStyle = colour("grid"); c.fillStyle = colour("dim"); c.textAlign = "center"; c.textBaseline = "bottom";
  const step = span(last - first), x = (s) => LEFT + (width - LEFT - 6) * (s - first) / (last - first);
  for (let s = Math.ceil(first / step) * step; s <= last; s += step) {
    c.beginPath(); c.moveTo(x(s), 0); c.lineTo(x(s), height - bottom); c.stroke();
    const label = `${clockText(s).slice(0, -3)}${began === null ? "" : `  ${wallText(began + 1000 * s).slice(0, 5)}`}`;
    if (x(s) < width - c.measureText(label).width / 2) c.fillText(label, x(s), height);
  }
  return x;
}

// Hypnogram above, hypnodensity below, cues as ticks between them. upto: a line at the time that is looked at.
function drawNight(canvas, night, first, last, upto, began) {
  const [c, width, height] = context(canvas);
  const bottom = Math.round(13 * typeSize()), ticks = 16, half = Math.max(20, (height - bottom - ticks) * 0.55), low = half + ticks;
  const x = timeAxis(c, width, height, first, last, bottom, began);
  c.textAlign = "right"; c.textBaseline = "middle"; c.fillStyle = colour("dim");
  const rowHeight = half / 4, y = (stage) => rowHeight * (ROW[stage] + 0.5);
  for (const stage of STAGES) c.fillText(stage, LEFT - 6, y(stage));
  c.fillText("cues", LEFT - 6, half + ticks / 2);
  c.fillText("p", LEFT - 6, low + (height - bottom - low) / 2);

  const rows = night.stages, densityHeight = height - bottom - low;
  let before = null;
  for (let k = 0; k < rows.length; k++) {
    const [at, stage, p] = rows[k];
    if (at > last) break;
    const end = Math.min(k + 1 < rows.length ? rows[k + 1][0] : at + 6, at + 30);
    const left = x(at), wide = Math.max(1, x(end) - left + 0.5);
    if (ROW[stage] !== undefined) {
      c.fillStyle = stageColour(stage);
      c.fillRect(left, y(stage) - 2, wide, 4);
      if (before !== null && before !== stage) {
        c.globalAlpha = 0.45; c.fillRect(left, Math.min(y(before), y(stage)), 1, Math.abs(y(before) - y(stage))); c.globalAlpha = 1;
      }
      before = stage;
    } else {
      c.fillStyle = colour("unknown"); c.globalAlpha = 0.25; c.fillRect(left, 0, wide, half); c.globalAlpha = 1;
      before = null;
    }
    if (p) {
      let top = low;
      for (const [place, name] of [[0, "W/N1"], [3, "R"], [1, "N2"], [2, "N3"]]) {
        const high = p[place] * densityHeight;
        c.fillStyle = stageColour(name); c.globalAlpha = 0.8; c.fillRect(left, top, wide, high); c.globalAlpha = 1;
        top += high;
      }
    }
  }
  const hits = new Map(night.decodes.map((d) => [d[3], d[1] === d[2]]));
  for (const [at, , sham, number] of night.cues) {
    if (at > last) break;
    const hit = hits.get(number);
    c.fillStyle = sham ? colour("dim") : hit ? colour("ok") : colour("strong");
    if (hit) c.fillRect(x(at) - 1, half + 2, 2.5, ticks - 4);
    else c.fillRect(x(at), half + (sham ? 7 : 4), 1.2, ticks - (sham ? 9 : 8));
  }
  if (upto !== null) { c.fillStyle = colour("accent"); c.fillRect(x(upto) - 0.75, 0, 1.5, height - bottom); }
}

// The viridis map at nine points: light means strong, also for those who do not see colours.
const MAP = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37]];

function mapped(value) {
  const v = Math.min(0.9999, Math.max(0, value)) * (MAP.length - 1), k = Math.floor(v), share = v - k;
  return MAP[k].map((low, i) => Math.round(low + share * (MAP[k + 1][i] - low)));
}

function drawSpectrogram(canvas, content, first, last, upto, began) {
  const [c, width, height] = context(canvas);
  const bottom = Math.round(13 * typeSize()), x = timeAxis(c, width, height, first, last, bottom, began), tall = height - bottom;
  c.textAlign = "right"; c.textBaseline = "middle"; c.fillStyle = colour("dim");
  for (const hz of [10, 20]) c.fillText(`${hz} Hz`, LEFT - 6, tall * (1 - hz / 30));
  const columns = content?.db ?? [];
  const values = columns.filter(Boolean).flat().sort((a, b) => a - b);
  if (!values.length) { c.textAlign = "center"; c.fillText("no recording to look at yet", width / 2, tall / 2); return; }
  const low = values[Math.floor(values.length * 0.05)], high = values[Math.floor(values.length * 0.98)];
  const bins = content.hz.length, image = document.createElement("canvas");
  image.width = columns.length; image.height = bins;
  const pixels = image.getContext("2d").createImageData(columns.length, bins);
  columns.forEach((column, k) => {
    for (let b = 0; b < bins; b++) {
      const at = 4 * ((bins - 1 - b) * columns.length + k);
      if (!column) { pixels.data[at + 3] = 0; continue; }
      const [r, g, blue] = mapped((column[b] - low) / (high - low || 1));
      pixels.data.set([r, g, blue, 255], at);
    }
  });
  image.getContext("2d").putImageData(pixels, 0, 0);
  c.imageSmoothingEnabled = false;
  c.save(); c.beginPath(); c.rect(LEFT, 0, width - LEFT - 6, tall); c.clip();
  c.drawImage(image, x(0), 0, x(columns.length * content.seconds) - x(0), tall);
  c.restore();
  if (upto !== null) { c.fillStyle = colour("accent"); c.fillRect(x(upto) - 0.75, 0, 1.5, tall); }
}

// Phases as a rose of 24 bins; 0 degrees, the up-state's peak, is at the top; the target is a line.
function drawRose(canvas, degrees, target, locked) {
  const [c, width, height] = context(canvas), radius = Math.min(width / 2, height / 2) - 12, cx = width / 2, cy = height / 2;
  c.strokeStyle = colour("line");
  for (const share of [0.5, 1]) { c.beginPath(); c.arc(cx, cy, radius * share, 0, 2 * Math.PI); c.stroke(); }
  c.fillStyle = colour("dim"); c.textAlign = "center"; c.textBaseline = "middle";
  c.fillText("up", cx, cy - radius - 6); c.fillText("down", cx, cy + radius + 7);
  if (!locked || !degrees.length) { c.fillText(locked ? "no locked cue yet" : "locking is off", cx, cy); return; }
  const bins = new Array(24).fill(0);
  for (const d of degrees) bins[Math.floor(((d + 7.5 + 360) % 360) / 15)] += 1;
  const most = Math.max(...bins);
  c.fillStyle = colour("accent");
  bins.forEach((n, k) => {
    if (!n) return;
    const middle = k * Math.PI / 12 - Math.PI / 2;
    c.beginPath(); c.moveTo(cx, cy); c.arc(cx, cy, radius * Math.sqrt(n / most), middle - Math.PI / 24, middle + Math.PI / 24); c.fill();
  });
  const t = target * Math.PI / 180 - Math.PI / 2;
  c.strokeStyle = colour("warn"); c.lineWidth = 2; c.beginPath(); c.moveTo(cx, cy);
  c.lineTo(cx + radius * Math.cos(t), cy + radius * Math.sin(t)); c.stroke(); c.lineWidth = 1;
  c.textAlign = "left"; c.fillStyle = colour("dim"); c.fillText(`n = ${degrees.length}`, 2, height - 6);
}
