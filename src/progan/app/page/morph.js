/** From one picture to another. */

import { button, element, input, paint } from "./dom.js";
import { anySeed, inWords, parseSeed } from "./wish.js";

/** @typedef {import("./main.js").App} App */

const SECONDS = 4; // of the way from one picture to the other

/** @param {App} app */
export function morph(app) {
  const canvas = element("morph-canvas", HTMLCanvasElement), caption = element("morph-caption", HTMLParagraphElement);
  const from = input("morph-from"), to = input("morph-to"), position = input("morph-position"), play = button("morph-play");
  let playing = false, turn = 0;

  const draw = async () => {
    const wish = { ...app.state.wish, seed: from.value, to: to.value, t: Number(position.value) };
    const picture = await app.draw(wish, turn);
    if (!picture) return false;
    paint(canvas, picture.pixels);
    canvas.setAttribute("aria-label", `Picture: ${inWords(wish)}`);
    caption.textContent = `${Math.round(100 * wish.t)} % of the way`;
    return true;
  };
  const stop = () => {
    playing = false;
    play.textContent = "Play";
  };
  const start = async () => {
    playing = true;
    play.textContent = "Pause";
    let way = Number(position.value) * SECONDS, before = performance.now();
    while (playing) {
      const now = await new Promise(requestAnimationFrame);
      way += Math.min(0.25, (now - before) / 1000);
      before = now;
      // There and back, slow at the ends.
      position.value = String((1 - Math.cos((Math.PI * way) / SECONDS)) / 2);
      if (!(await draw())) return stop();
    }
  };
  const show = () => {
    turn = app.turn();
    return draw();
  };

  for (const field of [from, to]) {
    field.addEventListener("change", () => {
      const seed = parseSeed(field.value);
      if (seed === null) app.say("A seed is a whole number from 0 on.");
      field.value = seed ?? anySeed();
      if (!playing) void show();
    });
  }
  position.addEventListener("input", () => {
    stop();
    void show();
  });
  play.addEventListener("click", () => {
    if (playing) return stop();
    turn = app.turn();
    void start();
  });
  button("morph-new").addEventListener("click", () => {
    from.value = to.value;
    to.value = anySeed();
    position.value = "0";
    if (!playing) void show();
  });
  button("morph-open").addEventListener("click", () => {
    app.open({ ...app.state.wish, seed: from.value, to: to.value, t: Number(position.value) });
  });
  return {
    show() {
      const { wish } = app.state;
      if (wish.to) {
        [from.value, to.value, position.value] = [wish.seed, wish.to, String(wish.t)];
      } else if (from.value !== wish.seed) {
        [from.value, to.value, position.value] = [wish.seed, anySeed(), "0"];
      }
      return show();
    },
    hide: stop,
  };
}
