"use strict";
/* Plays voices of [start_ticks, duration_ticks, pitch] with an organ-like tone, a timbre a voice. */

const COLOURS = ["#b5443c", "#3a6ea5", "#4c8b4a", "#8a5aa3", "#c08a2d", "#4a4a4a"];

/* Drawbars: how loud each harmonic is. Upper voices are brighter. */
const DRAWBARS = [
  [1, 0.6, 0.35, 0.3, 0.1, 0.15, 0.05, 0.12],
  [1, 0.5, 0.3, 0.2, 0.08, 0.08],
  [1, 0.45, 0.35, 0.12, 0.06],
  [1, 0.7, 0.25, 0.2, 0.1, 0.05],
];

class Player {
  /* piece: {voices: [[[start, duration, pitch], ...], ...], tempo_bpm}. onTick(ticks) is told where it is. */
  constructor(piece, onTick, onEnd) {
    this.piece = piece;
    this.onTick = onTick || (() => {});
    this.onEnd = onEnd || (() => {});
    this.seconds = 60 / (piece.tempo_bpm * 480);
    this.notes = piece.voices.flatMap((voice, number) =>
      voice.map(([start, duration, pitch]) => ({ start, duration, pitch, voice: number })));
    this.notes.sort((a, b) => a.start - b.start);
    this.length = Math.max(0, ...this.notes.map((note) => note.start + note.duration));
    this.muted = new Set();
    this.at = 0;
    this.playing = false;
    this.started = 0;
  }

  _open() {
    if (this.context) return;
    this.context = new (window.AudioContext || window.webkitAudioContext)();
    this.out = this.context.createDynamicsCompressor();
    this.out.connect(this.context.destination);
    this.waves = DRAWBARS.map((bars) => this.context.createPeriodicWave(
      new Float32Array(bars.length + 1), new Float32Array([0, ...bars])));
  }

  play(from) {
    this._open();
    this.context.resume();
    this.stop();
    this.at = from === undefined ? this.at : from;
    if (this.at >= this.length) this.at = 0;
    this.bus = this.context.createGain();
    this.bus.connect(this.out);
    this.zero = performance.now() / 1000 + 0.08 - this.at * this.seconds;
    this.next = this.notes.findIndex((note) => note.start + note.duration > this.at);
    this.playing = true;
    this.timer = setInterval(() => this._schedule(), 40);
    this._schedule();
    this._follow();
  }

  /* Hand the notes of the next quarter second to the audio clock. */
  _schedule() {
    const now = performance.now() / 1000;
    const shift = this.context.currentTime - now;
    while (this.next >= 0 && this.next < this.notes.length) {
      const note = this.notes[this.next];
      const start = this.zero + note.start * this.seconds;
      if (start > now + 0.25) break;
      const end = start + note.duration * this.seconds;
      this.next += 1;
      if (end > now && !this.muted.has(note.voice)) this._sound(note, Math.max(start, now) + shift, end + shift);
    }
  }

  _sound(note, start, end) {
    const tone = this.context.createOscillator();
    const gain = this.context.createGain();
    tone.setPeriodicWave(this.waves[note.voice % this.waves.length]);
    tone.frequency.value = 440 * 2 ** ((note.pitch - 69) / 12);
    const loud = 0.16;
    const stop = Math.max(start + 0.05, end - 0.02);
    gain.gain.setValueAtTime(0, start);
    gain.gain.linearRampToValueAtTime(loud, start + 0.025);
    gain.gain.setValueAtTime(loud, stop);
    gain.gain.linearRampToValueAtTime(0, stop + 0.07);
    tone.connect(gain).connect(this.bus);
    tone.start(start);
    tone.stop(stop + 0.1);
    this.started += 1;
  }

  _follow() {
    if (!this.playing) return;
    const ticks = (performance.now() / 1000 - this.zero) / this.seconds;
    this.at = Math.max(0, ticks);
    this.onTick(this.at);
    if (this.at >= this.length) {
      this.stop();
      this.at = 0;
      this.onEnd();
      return;
    }
    requestAnimationFrame(() => this._follow());
  }

  stop() {
    this.playing = false;
    clearInterval(this.timer);
    if (this.bus) {
      const bus = this.bus;
      bus.gain.setTargetAtTime(0, this.context.currentTime, 0.02);
      setTimeout(() => bus.disconnect(), 200);
      this.bus = null;
    }
  }
}

function clock(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/* A piano roll in `host`: voices in colours, bars, seams, sections. Returns {show(ticks)} for the cursor. */
function drawRoll(host, piece, marks, onSeek) {
  const NS = "http://www.w3.org/2000/svg";
  const row = 6, top = 34, left = 34;
  const pitches = piece.voices.flat().map((note) => note[2]);
  const low = Math.min(60, ...pitches) - 2, high = Math.max(60, ...pitches) + 2;
  const length = Math.max(piece.bar_ticks, ...piece.voices.flat().map((note) => note[0] + note[1]));
  const scale = Math.min(0.08, Math.max(0.022, (host.clientWidth - left - 24) / length));
  const width = left + length * scale + 20, height = top + (high - low + 1) * row + 22;
  const x = (ticks) => left + ticks * scale, y = (pitch) => top + (high - pitch) * row;
  const svg = document.createElementNS(NS, "svg");
  svg.setAttribute("width", width);
  svg.setAttribute("height", height);
  const add = (name, attributes, text) => {
    const element = document.createElementNS(NS, name);
    for (const key in attributes) element.setAttribute(key, attributes[key]);
    if (text !== undefined) element.textContent = text;
    svg.appendChild(element);
    return element;
  };
  for (let pitch = low; pitch <= high; pitch += 1) {
    if ([1, 3, 6, 8, 10].includes(pitch % 12)) {
      add("rect", { x: left, y: y(pitch), width: width - left, height: row, fill: "#f4f2ec" });
    }
    if (pitch % 12 === 0) {
      add("text", { x: 4, y: y(pitch) + row, "font-size": 10, fill: "#8a8d95" }, `C${pitch / 12 - 1}`);
    }
  }
  for (let bar = 0; bar * piece.bar_ticks <= length; bar += 1) {
    const at = x(bar * piece.bar_ticks);
    add("line", { x1: at, x2: at, y1: top, y2: height - 18, stroke: "#d9d6cd" });
    if (bar % 4 === 0) add("text", { x: at + 2, y: height - 6, "font-size": 10, fill: "#8a8d95" }, bar + 1);
  }
  for (const seam of marks.seams) {
    add("line", { x1: x(seam), x2: x(seam), y1: 20, y2: height - 18, stroke: "#8c2f39", "stroke-width": 1.5,
                  "stroke-dasharray": "5 4", class: "seam" });
  }
  for (const [ticks, name] of marks.sections) {
    add("text", { x: x(ticks) + 3, y: 14, "font-size": 12, fill: "#8c2f39", class: "section" }, name);
  }
  piece.voices.forEach((voice, number) => {
    for (const [start, duration, pitch] of voice) {
      add("rect", { x: x(start), y: y(pitch), width: Math.max(2, duration * scale - 1), height: row, rx: 1.5,
                    fill: COLOURS[number % COLOURS.length], class: "note" });
    }
  });
  const cursor = add("line", { x1: left, x2: left, y1: 20, y2: height - 18, stroke: "#1d1f24",
                               "stroke-width": 2, class: "playhead" });
  svg.addEventListener("click", (event) => {
    const ticks = (event.clientX - svg.getBoundingClientRect().left - left) / scale;
    onSeek(Math.max(0, Math.min(length, ticks)));
  });
  host.appendChild(svg);
  return {
    show(ticks) {
      cursor.setAttribute("x1", x(ticks));
      cursor.setAttribute("x2", x(ticks));
      const view = host.clientWidth;
      if (x(ticks) < host.scrollLeft || x(ticks) > host.scrollLeft + view * 0.85) {
        host.scrollLeft = Math.max(0, x(ticks) - view * 0.15);
      }
    },
  };
}
