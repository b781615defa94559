"use strict";
// One page for a session that runs (live) and for one that has ended (review). The token stands behind # in the
// address; it goes to this server only.

const byId = (id) => document.getElementById(id);
const [, , subject, session] = location.pathname.split("/");
const token = location.hash.slice(1) || sessionStorage.getItem("token") || "";
sessionStorage.setItem("token", token);
const api = `/api/${subject}/${session}`;

const night = { stages: [], cues: [], decodes: [], phases: [], events: [], arousals: [], seconds: 0 };
let state = null, connected = false, lastLine = 0, rights = "view", spectrogram = null, items = [];
let review = false, reviewAt = 0, alarmSound = null, view = 30, scale = 100, shown = [], simulated = false;
let derivations = {}, began = null, ended = null;

// --- signals ---------------------------------------------------------------------------------------------

const KEEP = 3100;   // samples of the screen's buffer: 31 s at 100 Hz
let names = [], buffer = [], newest = 0, rate = 100, plot = null, plotted = "";

function takeSignals(payload) {
  const bytes = Uint8Array.from(atob(payload.data), (ch) => ch.charCodeAt(0));
  const values = new Float32Array(bytes.buffer), count = values.length / payload.names.length;
  if (payload.names.join() !== names.join()) { setChannels(payload.names); }
  const first = payload.sample / 500;
  const missing = newest ? Math.round((first - newest) * payload.rate) : 0;
  for (let k = 0; k < names.length; k++) {
    const row = buffer[k];
    for (let m = 0; m < Math.min(missing, KEEP); m++) row.push(null);
    for (let s = 0; s < count; s++) { const v = values[k * count + s]; row.push(Number.isNaN(v) ? null : v); }
    if (row.length > KEEP) row.splice(0, row.length - KEEP);
  }
  rate = payload.rate;
  newest = first + count / payload.rate;
}

function setChannels(list) {
  names = list; buffer = list.map(() => []);
  const select = byId("channels"), before = select.value;
  const options = [["first", derived() ? "as the stager sees them" : "staging channels"], ...chunked(list, derived())];
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  if (before) select.value = before;
  choose();
}

function chunked(list, first) {
  const found = [];
  for (let k = first; k < list.length; k += 12) found.push([String(k), `${list[k]} – ${list[Math.min(k + 11, list.length - 1)]}`]);
  return found;
}

// The stager's derivations stand first; the EMG, which tells of a waking sleeper, is never out of sight.
function choose() {
  const value = byId("channels").value, count = derived();
  const emg = Object.keys(derivations).findIndex((name) => /emg/i.test(name));
  shown = value === "first" || value === "" ? names.map((_, k) => k).slice(0, count || 3)
    : [...names.map((_, k) => k).slice(Number(value), Number(value) + 12), ...(count && emg >= 0 ? [emg] : [])];
  plotted = "";
}

function derived() { const own = Object.keys(derivations); return own.every((name, k) => names[k] === name) ? own.length : 0; }

function badName(name) { return [name, ...(derivations[name] ?? [])].some((own) => state?.quality?.[own]); }

function drawSignals() {
  const box = byId("chart").getBoundingClientRect();
  if (!names.length || box.height < 30) return;
  const key = [shown.join(), Math.round(box.width), Math.round(box.height), document.documentElement.dataset.theme].join("|");
  const length = Math.round(view * rate), total = Math.max(0, ...shown.map((k) => buffer[k].length));
  const end = review ? reviewAt : newest;
  const xs = Array.from({ length }, (_, i) => end - (length - 1 - i) / rate);
  const gap = scale, offset = (place) => (shown.length - 1 - place) * gap;
  const data = [xs, ...shown.map((k, place) => {
    const row = buffer[k], start = row.length - length, middle = median(row.slice(Math.max(0, start)));
    return xs.map((_, i) => { const v = start + i < 0 ? null : row[start + i]; return v === null || v === undefined ? null : v - middle + offset(place); });
  })];
  if (key !== plotted) {
    plot?.destroy();
    plot = new uPlot({
      width: Math.max(60, box.width - 76), height: box.height, legend: { show: false }, cursor: { show: false }, padding: [4, 4, 0, 0],
      scales: { x: { time: false }, y: { range: () => [-0.7 * gap, (shown.length - 0.3) * gap] } },
      axes: [{ stroke: colour("dim"), grid: { stroke: colour("grid"), width: 1 }, ticks: { show: false }, size: Math.round(18 * typeSize()), font: `${10 * typeSize()}px system-ui`, values: (_, v) => v.map(clockText) }, { show: false }],
      series: [{}, ...shown.map((k, place) => ({ stroke: k < derived() ? colour(["accent", "wake", "rem"][k] ?? "text") : colour("text"), width: 1, spanGaps: false, points: { show: false } }))],
    }, data, byId("chart"));
    plot.root.style.marginLeft = "76px";
    plotted = key;
    byId("labels").replaceChildren(...shown.map((k, place) => {
      const label = document.createElement("span");
      label.textContent = names[k];
      label.style.top = `${4 + (box.height - 22) * (1 - (offset(place) + 0.7 * gap) / ((shown.length + 0.4) * gap))}px`;
      if (badName(names[k])) label.style.color = colour("bad");
      return label;
    }));
  } else if (total) { plot.setData(data); }
}

function median(values) {
  const kept = values.filter((v) => v !== null && v !== undefined).sort((a, b) => a - b);
  return kept.length ? kept[Math.floor(kept.length / 2)] : 0;
}

// --- state -----------------------------------------------------------------------------------------------

function text(id, value) { const element = byId(id); if (element.textContent !== String(value)) element.textContent = value; }

function gib(bytes) { return bytes === null ? "–" : bytes > 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(1)} GiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`; }

let lastBytes = 0, grewAt = 0;

// What the page shows is old: nothing comes from the session, it has ended, or no samples come. Grey at once.
function stale() {
  if (review || !state) return null;
  if (ended) return "ended";
  if (!connected) return "no contact";
  if (performance.now() - lastLine > 1500) return "no news";
  return ["current", "back", "behind"].includes(state.stream.state) ? null : "no samples";
}

function showCueing() {
  if (!state || review) return;
  const old = stale(), paused = state.blocked.some((b) => b.includes("operator"));
  document.body.classList.toggle("stale", old !== null);
  byId("dot").className = `dot ${old ? "" : state.cueing ? "on" : "off"}`;
  text("cuetext", old ?? (state.cueing ? "cueing" : paused ? "paused" : "not cueing"));
  const why = old === "ended" ? `${ended}: the session is being closed` : old === "no contact" || old === "no news" ? "as it was when the session was last heard"
    : state.cueing ? `group ${state.group === null ? "–" : state.group}` : state.blocked.join("; ");
  text("why", why); byId("why").title = why;
  byId("pause").classList.toggle("paused", paused);
  text("pause", paused ? "Resume cueing" : "Pause cueing");
}

function showDryRun(dry) { text("dryrun", dry ? "DRY RUN: nothing sounds" : ""); }

function ago(seconds) { return seconds < 120 ? `${Math.floor(seconds)} s ago` : `${Math.floor(seconds / 60)} min ago`; }

// When the last cue and arousal were, and how many cues an hour: of this night, up to a time of the session's clock.
function showRecent(now) {
  const heard = night.cues.filter((cue) => !cue[2] && cue[0] <= now), last = heard.at(-1), arousal = night.arousals.filter((a) => a[0] <= now).at(-1);
  text("lastcue", last ? ago(now - last[0]) : "none yet");
  text("rate", `${heard.filter((cue) => cue[0] > now - 3600).length} in the last hour`);
  text("arousal", arousal ? ago(now - arousal[0]) : "none yet"); byId("arousal").title = arousal ? arousal[1] : "";
}

function showState() {
  if (!state) return;
  const stage = byId("stage");
  stage.firstChild.textContent = state.stage;
  stage.style.borderLeftColor = stageColour(state.stage);
  const age = state.stager.age_seconds;
  text("stagewhy", state.reason ? state.reason : state.probabilities ? `p ${Math.max(...state.probabilities).toFixed(2)}${age === null ? "" : `, ${age.toFixed(0)} s old`}` : "no stage yet");
  byId("stagewhy").title = byId("stagewhy").textContent;
  showBars(state.probabilities);
  showCueing();
  text("volume", `${state.volume_db.toFixed(1)} dB, cap ${state.max_db.toFixed(0)}`);
  const r = state.recording, now = performance.now();
  if (r.bytes !== lastBytes) { lastBytes = r.bytes; grewAt = now; }
  const still = r.bytes !== null && now - grewAt > 5000;
  text("recording", r.file === null ? "none" : `${gib(r.bytes)} ${still ? "NOT GROWING" : "growing"}`);
  byId("recording").style.color = still ? colour("bad") : "";
  text("disk", `${gib(r.free_bytes)}${r.minutes_left === null ? "" : `, ${(r.minutes_left / 60).toFixed(0)} h left`}`);
  text("name", `${state.subject} ${state.session}`);
  text("elapsed", clockText(state.seconds));
  text("ends", state.planned_end ? `ends ${wallText(state.planned_end).slice(0, 5)}` : "no planned end");
  showRecent(state.seconds);
  if (alarmSound === null) setAlarmSound(state.amplifier && !state.dry_run);
  showDryRun(state.dry_run);
  showDecode(state.last_decode, state.items);
  showCounts(state.cues, state.shams, state.decodes);
  showQuality(state.quality);
  showGauges();
  showAlarms();
  if (byId("rose").offsetParent) drawRose(byId("rose"), state.phase.degrees, state.phase.target, state.phase.locked);
  showPhaseFrom(state.phase.from === "whole");
}

function showPhaseFrom(whole) { text("phasefrom", whole ? "responses to cues included" : "before the cue"); }

function showBars(p) {
  const bars = byId("bars");
  if (!bars.children.length) {
    for (const stage of STAGES) {
      const name = document.createElement("span"), bar = document.createElement("i"), number = document.createElement("span");
      name.textContent = stage; number.className = "mono dim"; bar.append(document.createElement("b"));
      bars.append(name, bar, number);
    }
  }
  STAGES.forEach((stage, k) => {
    const value = p ? p[k] : 0, fill = bars.children[3 * k + 1].firstChild;
    fill.style.width = `${100 * value}%`; fill.style.background = stageColour(stage);
    bars.children[3 * k + 2].textContent = p ? value.toFixed(2) : "–";
  });
}

function showDecode(decode, list) {
  const holder = document.querySelector("#decode ol");
  if (holder.children.length !== list.length) {
    holder.replaceChildren(...list.map((item) => {
      const li = document.createElement("li"), name = document.createElement("span"), bar = document.createElement("i"), value = document.createElement("span");
      name.textContent = item; value.className = "mono"; bar.append(document.createElement("b")); li.append(name, bar, value);
      return li;
    }));
    holder.style.setProperty("--chance", `${100 / list.length}%`);
  }
  text("decodewhen", decode ? `cued ${decode.cued}${decode.latency_ms === undefined ? "" : `, ${decode.latency_ms.toFixed(0)} ms`}` : "none yet");
  const p = decode?.probabilities ?? [], best = p.indexOf(Math.max(...p));
  [...holder.children].forEach((li, k) => {
    li.className = `${decode?.cued === list[k] ? "cued" : ""} ${k === best ? "first" : ""}`;
    li.children[1].firstChild.style.width = `${100 * (p[k] ?? 0)}%`;
    li.children[2].textContent = p.length ? p[k].toFixed(2) : "";
  });
}

function showCounts(cues, shams, decodes) {
  const entries = Object.entries(cues), holder = byId("counts");
  const total = entries.reduce((sum, [, n]) => sum + n, 0);
  text("total", `${total}${shams ? ` + ${shams} sham` : ""}`);
  if (holder.children.length !== entries.length) {
    holder.replaceChildren(...entries.map(([item]) => {
      const row = document.createElement("div"), name = document.createElement("span"), n = document.createElement("span");
      name.textContent = item; n.className = "mono"; row.append(name, n); return row;
    }));
  }
  entries.forEach(([, n], k) => { holder.children[k].lastChild.textContent = n; });
  holder.title = `${decodes.total ?? 0} decodes, ${decodes.failed ?? 0} failed`;
}

function showQuality(quality) {
  const entries = Object.entries(quality), bad = entries.filter(([, reason]) => reason);
  text("qualitytext", bad.length ? `${bad.length} of ${entries.length} bad` : `${entries.length} good`);
  const holder = byId("quality");
  if (holder.children.length !== entries.length) {
    holder.replaceChildren(...entries.map(([name]) => { const s = document.createElement("span"); s.textContent = name; return s; }));
  }
  entries.forEach(([, reason], k) => {
    const light = holder.children[k];
    light.className = reason ? "bad" : ""; light.title = reason ?? "good";
  });
}

function showGauges() {
  const stream = state.stream, rows = [
    ["sample to here", `${stream.latency_ms.toFixed(0)} ms`, stream.latency_ms > 500],
    ["lost samples", stream.gaps ? `${stream.lost_samples} (${stream.gaps} gap${stream.gaps > 1 ? "s" : ""})` : "0", stream.gaps > 0],
    ["stream", stream.state, stream.state !== "current"],
    ["staging took", state.stager.latency_ms === null ? "–" : `${state.stager.latency_ms.toFixed(0)} ms`, false],
    ["late stagings", state.stager.late, false],
    ["decodes", `${state.decodes.total} (${state.decodes.failed} failed)`, false],
    ["markers to", state.ports.names.join(", ") || "log", false],
    ["sound", state.audio.lost ?? "ok", Boolean(state.audio.lost)],
  ];
  const holder = byId("gauges");
  if (holder.children.length !== 2 * rows.length) {
    holder.replaceChildren(...rows.flatMap(([name]) => { const dt = document.createElement("dt"); dt.textContent = name; const dd = document.createElement("dd"); dd.className = "mono"; return [dt, dd]; }));
  }
  rows.forEach(([, value, bad], k) => { const dd = holder.children[2 * k + 1]; dd.textContent = value; dd.classList.toggle("bad", bad); });
}

function showAlarms() {
  const alarms = [...(state?.alarms ?? [])];
  if (ended) alarms.length = 0;  // they were the session's
  const old = stale();
  if (old === "no contact") alarms.unshift({ kind: "engine", text: "the session does not answer: look at its terminal", since: "" });
  if (old === "no news") alarms.unshift({ kind: "engine", text: "nothing new comes from the session", since: "" });
  const holder = byId("alarms"), words = alarms.map((a) => `${a.kind}: ${a.text}`).join("|");
  if (holder.dataset.words !== words) {
    holder.dataset.words = words;
    holder.className = alarms.length ? "on" : "";
    const spans = alarms.map((a) => { const s = document.createElement("span"); s.textContent = `${a.kind}: ${a.text}`; s.title = a.since ? `since ${wallText(a.since)}` : ""; return s; });
    for (const own of holder.querySelectorAll("span")) own.remove();
    holder.append(...spans);
    document.title = `${alarms.length ? "⚠ " : ""}${subject} ${session} · Sleep Interpreter`;
  }
  byId("accept").hidden = Boolean(ended || old === "no contact" || !state?.offered);
  alarmOn = alarms.length > 0;
  showCueing();
}

let alarmOn = false, audio = null;

function setAlarmSound(on) {
  alarmSound = on;
  if (on) { audio ??= new AudioContext(); audio.resume(); audio.onstatechange = showAlarmSound; }
  showAlarmSound();
}

// A browser is silent until somebody has clicked on its page: said where it is switched on.
function showAlarmSound() {
  const silent = alarmSound && audio.state !== "running";
  byId("sound").setAttribute("aria-pressed", Boolean(alarmSound)); byId("sound").classList.toggle("silent", silent);
  text("sound", `Alarm sound: ${silent ? "CLICK" : alarmSound ? "on" : "off"}`);
  byId("sound").title = silent ? "the browser allows no sound before the first click on this page" : "";
}

for (const kind of ["pointerdown", "keydown"]) document.addEventListener(kind, () => { if (alarmSound) audio.resume(); });
setInterval(() => {
  if (!alarmOn || !alarmSound || review || audio.state !== "running") return;
  const tone = audio.createOscillator(), gain = audio.createGain();
  tone.frequency.value = 660; gain.gain.setValueAtTime(0.12, audio.currentTime); gain.gain.linearRampToValueAtTime(0, audio.currentTime + 0.35);
  tone.connect(gain).connect(audio.destination); tone.start(); tone.stop(audio.currentTime + 0.36);
}, 1500);

// --- events and the night --------------------------------------------------------------------------------

function takeEvent(entry) {
  const { event, detail, seconds, code, wall } = entry;
  night.seconds = Math.max(night.seconds, seconds);
  if (event === "stage") night.stages.push([seconds, detail.stage, detail.smoothed]);
  else if (event === "cue" || event === "sham") night.cues.push([seconds, detail.item, event === "sham" || (detail.sounded === false && !detail.recorded), detail.number]);
  else if (event === "sound" && detail.dac === null) night.cues = night.cues.filter((cue) => cue[3] !== detail.number);
  else if (event === "arousal") night.arousals.push([seconds, detail.reason]);
  else if (event === "stop") { ended = detail.reason; showAlarms(); }
  else if (event === "resume") ended = null;
  else if (event === "decode") night.decodes.push([seconds, detail.cued, detail.item, detail.number, detail.probabilities]);
  else if (event === "cue_phase") night.phases.push([detail.number, detail.locked, detail.degrees, detail.phase_from ?? "whole"]);
  if (!["stage", "cue_phase"].includes(event) && !(event === "sound" && detail.dac !== null)) {
    const rest = Object.fromEntries(Object.entries(detail).filter(([key]) => key !== "probabilities"));
    night.events.push([seconds, event, code, rest, wall.time]);
    if (night.events.length > 800) night.events.splice(0, 400);
    showEvents();
  }
}

const WORDS = {
  cue: (d) => `${d.item}, ${d.stage}${d.locked ? ", locked" : ""}`, sham: (d) => `${d.item} (silent), ${d.stage}`,
  decode: (d) => `${d.cued} → ${d.item}${d.cued === d.item ? " ✓" : ""}`, decode_failed: (d) => `${d.cued}: ${d.reason}`,
  gate: (d) => (d.open ? "open" : "closed"), cueing: (d) => (d.on ? "on" : `off: ${d.reason}`), command: (d) => `${d.command} (${d.origin}): ${d.text}`,
  stream: (d) => `${d.state}${d.reason ? `: ${d.reason}` : ""}`, gap: (d) => `${d.seconds} s lost`, fault: (d) => `${d.part} ${d.state}: ${d.reason}`,
  quality: (d) => `${d.channel} ${d.reason ?? "good again"}`, arousal: (d) => d.reason, group: (d) => `group ${d.group}`,
  sound: (d) => `cue ${d.number} did not sound: ${d.reason}`, no_sound: (d) => (d.on ? `no cues: ${d.reason}` : "sound is back"),
  notice: (d) => d.text, volume: (d) => `${d.db} dB`, stop: (d) => d.reason, resume: (d) => `goes on: ${d.segment}`,
  cue_skipped: (d) => `${d.item}: ${d.reason}`, cue_cancelled: (d) => `${d.item}: ${d.reason}`, stage_skipped: (d) => d.reason,
};

function words(detail) { return Object.entries(detail).filter(([, v]) => v !== null && typeof v !== "object").map(([k, v]) => `${k.replace("_", " ")} ${v}`).join(", "); }

// What went wrong is red, what works again is not.
function tone(kind, d) {
  if (kind === "stream") return ["current", "back"].includes(d.state) ? "good" : d.state === "clock" ? "" : "bad";
  if (kind === "fault") return d.state === "back" ? "good" : d.state === "set" ? "" : "bad";
  if (kind === "no_sound") return d.on ? "bad" : "good";
  if (kind === "quality") return d.reason ? "bad" : "good";
  if (kind === "notice") return d.level === "warning" ? "warn" : "";
  return ["gap", "sound", "decode_failed"].includes(kind) ? "bad" : "";
}

function showEvents() {
  const upto = review ? reviewAt : Infinity;
  const rows = night.events.filter((e) => e[0] <= upto).slice(-60).reverse();
  byId("events").replaceChildren(...rows.map(([at, kind, , detail, wall]) => {
    const li = document.createElement("li"), parts = [wallText(wall), clockText(at), kind.replace("_", " "), (WORDS[kind] ?? words)(detail)];
    li.className = `${kind} ${tone(kind, detail)}`;
    li.append(...parts.map((part, k) => { const s = document.createElement("span"); s.textContent = part; if (k < 2) s.className = k ? "mono dim" : "mono"; return s; }));
    li.lastChild.title = parts[3];
    return li;
  }));
}

function showNight() {
  const first = night.stages.length ? Math.min(night.stages[0][0] - 30, night.seconds) : 0;
  const end = Math.max(night.seconds, newest, first + 120);
  drawNight(byId("night"), night, Math.max(0, first), end, review ? reviewAt : null, began);
  drawSpectrogram(byId("spectrogram"), spectrogram, Math.max(0, first), end, review ? reviewAt : null, began);
}

async function getJson(path) {
  const answer = await fetch(path, { headers: { "X-Token": token } });
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error ?? answer.statusText);
  return content;
}

async function readHistory() {
  const content = await getJson(`${api}/history`);
  Object.assign(night, { stages: content.stages, cues: content.cues, decodes: content.decodes, phases: content.phases, events: content.events, arousals: content.arousals, seconds: content.seconds });
  derivations = Object.fromEntries(Object.entries(content.derivations).map(([name, own]) => [name, own.filter(Boolean)]));
  began = content.began === null ? null : Date.parse(content.began);
  ended = content.ended;
  showDryRun(content.dry_run);
  items = content.items; rights = content.rights; simulated = content.simulated;
  document.body.classList.toggle("looking", rights !== "control");
  byId("report").hidden = !content.report;
  byId("report").href = content.report ? `/report/${subject}/${session}?token=${content.report}` : "";
  byId("index").href = `/#${sessionStorage.getItem("list") || token}`;
  text("legend", simulated ? "simulated" : "");
  byId("legend").className = simulated ? "mark-simulated" : "dim";
  if (!names.length && content.channels.length) setChannels(content.channels);
  return content;
}

async function readSpectrogram() {
  try { spectrogram = await getJson(`${api}/spectrogram`); } catch { spectrogram = null; }
}

// --- feed ------------------------------------------------------------------------------------------------

function follow() {
  const socket = new WebSocket(`ws://${location.host}/feed/${subject}/${session}`);
  socket.onopen = () => socket.send(token);
  socket.onmessage = (message) => {
    const { kind, payload } = JSON.parse(message.data);
    if (kind !== "link") lastLine = performance.now();
    if (kind === "state") { state = payload; showState(); }
    else if (kind === "signals") takeSignals(payload);
    else if (kind === "event") takeEvent(payload);
    else if (kind === "link") {
      const came = payload.connected && !connected;
      connected = payload.connected;
      text("link", connected ? "connected" : "not connected");
      if (came) { lastLine = performance.now(); review = false; document.body.classList.remove("review"); readHistory().then(readSpectrogram); }
      else if (!connected) setTimeout(maybeReview, 1500);
      showAlarms();
    }
  };
  socket.onclose = () => { connected = false; text("link", "the monitor does not answer"); showAlarms(); setTimeout(follow, 1500); };
}

// --- review ----------------------------------------------------------------------------------------------

async function maybeReview() {
  if (connected) return;
  const content = await readHistory();
  if (!content.ending || content.running) return;
  review = true;
  document.body.classList.remove("stale");
  showAlarms();
  await readSpectrogram();
  const slider = byId("slider");
  slider.max = Math.floor(night.seconds); slider.value = slider.max;
  text("link", `ended: ${content.ending}`);
  slider.oninput = () => { reviewAt = Number(slider.value); showReview(); };
  reviewAt = Number(slider.value);
  showReview();
  document.body.classList.add("review");  // last: the slider is seen when it answers
}

let asked = 0;
async function showReview() {
  const rows = night.stages.filter((s) => s[0] <= reviewAt), newestStage = rows.at(-1);
  const stage = byId("stage");
  stage.firstChild.textContent = newestStage ? newestStage[1] : "–";
  stage.style.borderLeftColor = stageColour(newestStage?.[1]);
  text("stagewhy", "review"); showBars(newestStage?.[2] ?? null);
  text("time", began === null ? clockText(reviewAt) : wallText(began + 1000 * reviewAt)); text("ends", ""); showRecent(reviewAt);
  text("elapsed", `${clockText(reviewAt)} of ${clockText(night.seconds)}`); text("reviewtime", clockText(reviewAt));
  text("name", `${subject} ${session}`); text("recording", "ended"); text("disk", "–"); text("volume", "–");
  const switches = night.events.filter((e) => e[1] === "cueing" && e[0] <= reviewAt), last = switches.at(-1);
  byId("dot").className = `dot ${last?.[3].on ? "on" : "off"}`;
  text("cuetext", last?.[3].on ? "cueing" : "not cueing"); text("why", last && !last[3].on ? last[3].reason : "");
  const decode = night.decodes.filter((d) => d[0] <= reviewAt).at(-1);
  showDecode(decode ? { cued: decode[1], item: decode[2], probabilities: decode[4] } : null, items);
  const counts = Object.fromEntries(items.map((item) => [item, 0]));
  let shams = 0;
  for (const [at, item, sham] of night.cues) if (at <= reviewAt) { if (sham) shams += 1; else counts[item] += 1; }
  showCounts(counts, shams, { total: night.decodes.filter((d) => d[0] <= reviewAt).length });
  const phases = night.phases.filter((p) => p[1] && p[2] !== null).map((p) => p[2]);
  drawRose(byId("rose"), phases, 0, phases.length > 0);
  showPhaseFrom(night.phases.some((p) => p[3] === "whole"));
  showEvents(); showNight();
  const mine = ++asked, start = Math.max(0, reviewAt - view);
  try {
    const content = await getJson(`${api}/signals?start=${start}&seconds=${view}`);
    if (mine !== asked) return;
    if (content.names.join() !== names.join()) setChannels(content.names);
    rate = content.rate; buffer = content.data; newest = reviewAt;
    plotted = ""; drawSignals();
  } catch (error) { text("link", error.message); }
}

// --- controls --------------------------------------------------------------------------------------------

async function command(words, args = {}) {
  answer(`${words} …`);
  try {
    const reply = await fetch(`${api}/command`, { method: "POST", headers: { "X-Token": token, "Content-Type": "application/json" }, body: JSON.stringify({ command: words, args }) });
    const content = await reply.json();
    answer(content.ok ? `${content.text} (sample ${content.sample})` : `not done: ${content.error}`);
  } catch (error) { answer(`not done: ${error.message}`); }
}

function mark() { const field = byId("marktext"); command("mark", { text: field.value }); field.value = ""; field.blur(); }

// An act that cannot be taken back asks: a second click within 4 s. The button keeps its size.
function askTwice(id, act, question) {
  const button = byId(id), own = button.textContent;
  let sure = null;
  const forget = () => { clearTimeout(sure); sure = null; button.classList.remove("sure"); button.textContent = own; };
  button.onclick = () => {
    if (sure) { forget(); act(); return; }
    button.classList.add("sure"); button.textContent = "Click again"; answer(question);
    sure = setTimeout(forget, 4000);
  };
}

byId("pause").onclick = () => command(byId("pause").classList.contains("paused") ? "resume" : "pause");
byId("quieter").onclick = () => command("volume", { change_db: -1 });
byId("louder").onclick = () => command("volume", { change_db: 1 });
askTwice("group", () => command("group"), "the other group's items will be cued from now on: click again within 4 s");
askTwice("accept", () => command("accept"), "cues will go by the sleep that this stream shows: click again within 4 s if it is this bed's amplifier");
askTwice("stop", () => command("stop"), "the session ends for good: click again within 4 s");
byId("mark").onclick = mark;
byId("marktext").onkeydown = (event) => { if (event.key === "Enter") mark(); event.stopPropagation(); };
byId("theme").onclick = () => setTheme(document.documentElement.dataset.theme === "light" ? "dark" : "light");
byId("sound").onclick = () => { if (alarmSound && audio.state !== "running") audio.resume(); else setAlarmSound(!alarmSound); };
byId("type").onclick = () => setType(typeSize() > 1 ? "normal" : "large");
for (const button of document.querySelectorAll("[data-window]")) {
  button.onclick = () => {
    view = Number(button.dataset.window);
    for (const other of document.querySelectorAll("[data-window]")) other.setAttribute("aria-pressed", other === button);
    review ? showReview() : drawSignals();
  };
}
let told = 0;
// An answer stands above the buttons, over the rest, and goes by itself.
function answer(words) { text("answer", words); clearTimeout(told); told = setTimeout(() => text("answer", ""), 10000); }

function zoom(factor) { scale = Math.min(2000, Math.max(10, scale * factor)); text("scale", `${Math.round(scale)} µV`); plotted = ""; drawSignals(); }
byId("smaller").onclick = () => zoom(1.5);
byId("larger").onclick = () => zoom(1 / 1.5);
byId("channels").onchange = () => { choose(); drawSignals(); };

function setType(name) {
  document.documentElement.dataset.type = name; localStorage.setItem("type", name);
  byId("type").setAttribute("aria-pressed", name === "large"); plotted = ""; drawSignals(); showNight();
}

function setTheme(name) {
  document.documentElement.dataset.theme = name; localStorage.setItem("theme", name);
  text("theme", name === "light" ? "Dark" : "Light"); plotted = ""; showState(); drawSignals(); showNight();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || ["INPUT", "SELECT"].includes(event.target.tagName)) return;
  const keys = { p: () => byId("pause").click(), "+": () => byId("louder").click(), "-": () => byId("quieter").click(), g: () => byId("group").click(), m: () => { byId("marktext").focus(); event.preventDefault(); } };
  if (!review && rights === "control") keys[event.key.toLowerCase()]?.();
});

setTheme(localStorage.getItem("theme") ?? "dark");
setType(localStorage.getItem("type") ?? "normal");
setInterval(() => { if (!review) { drawSignals(); text("time", wallText(Date.now())); showAlarms(); } }, 200);
setInterval(() => { if (!review) showNight(); }, 1000);
setInterval(() => { if (!review && connected) readSpectrogram(); }, 15000);
window.addEventListener("resize", () => { plotted = ""; review ? showReview() : (drawSignals(), showNight()); });
readHistory().then(() => { showNight(); showEvents(); follow(); setTimeout(maybeReview, 1200); }).catch((error) => text("link", error.message));
