/** The latent of a picture: what comes nearest to it, as it is searched. */

import { button, element, input, make, paint } from "../dom.js";
import { save } from "../platform.js";
import { ask, decoded } from "./engine.js";

const HTML = `
  <p class="hint">What this generator can make that is most like a picture of yours. The picture goes to the computer that progan runs on, and is not kept there.</p>
  <div class="find-controls">
    <label id="find-drop" class="drop"><input id="find-file" type="file" accept="image/*"><span id="find-words">Choose a picture, or drop it here</span></label>
    <label id="find-label-row" class="field" hidden><span>Class</span><select id="find-label"></select></label>
    <button id="find-stop" type="button" hidden>End the search</button>
  </div>
  <progress id="find-bar" aria-label="Search" hidden></progress>
  <p id="find-state" class="caption" role="status"></p>
  <div id="find-shown" class="pairs" hidden>
    <figure><canvas id="find-target" role="img" aria-label="Your picture"></canvas><figcaption>Your picture</figcaption></figure>
    <figure><canvas id="find-best" role="img" aria-label="Nearest picture found"></canvas><figcaption>Found</figcaption></figure>
  </div>
  <div id="find-after" hidden>
    <div class="actions"><button id="find-latent" type="button">Save its latent</button><button id="find-picture" type="button">Save the picture</button></div>
    <h2 id="find-near-title">Training images nearest to it</h2>
    <div id="find-near" class="near"></div>
  </div>`;

/**
 * @param {import("./panels.js").Given} given
 * @param {HTMLElement} place
 * @returns {import("../tabs.js").Panel}
 */
export function findPanel({ facts, server, say }, place) {
  place.innerHTML = HTML;
  const file = input("find-file"), drop = element("find-drop", HTMLLabelElement), bar = element("find-bar", HTMLProgressElement);
  const words = element("find-state", HTMLParagraphElement), select = element("find-label", HTMLSelectElement);
  const best = element("find-best", HTMLCanvasElement), end = button("find-stop");
  if (facts.labels?.kind === "class") {
    const choices = [["", "whichever fits best"], ...facts.labels.names.map((name) => [name, name])];
    select.append(...choices.map(([value, textContent]) => make("option", { value, textContent })));
    element("find-label-row", HTMLLabelElement).hidden = false;
  }
  /** @type {AbortController | null} */
  let running = null;
  /** @type {any} */
  let latent = null;
  let side = 0;

  /** @param {any} fact What the server says, a line at a time. */
  const take = (fact) => {
    if (fact.error) throw new Error(fact.error);
    if (fact.note) say(fact.note);
    if (fact.target) {
      ({ side } = fact);
      element("find-shown", HTMLDivElement).hidden = false;
      paint(element("find-target", HTMLCanvasElement), decoded(fact.target, side));
    }
    if (fact.best) {
      paint(best, decoded(fact.best, side));
      [bar.max, bar.value] = [fact.of, fact.step];
      words.textContent = `Step ${fact.step} of ${fact.of}`;
    }
    if (fact.found) {
      paint(best, decoded(fact.found, side));
      ({ latent } = fact);
      const { distance, random_distance } = latent;
      words.textContent = `Distance ${distance.toPrecision(3)}; of the nearest random picture ${random_distance.toPrecision(3)}.`;
      element("find-near", HTMLDivElement).replaceChildren(...fact.near.map((/** @type {string} */ each, /** @type {number} */ i) => {
        const canvas = make("canvas");
        canvas.setAttribute("role", "img");
        canvas.setAttribute("aria-label", `Training image ${i + 1}`);
        paint(canvas, decoded(each, side));
        return canvas;
      }));
      element("find-near-title", HTMLElement).hidden = fact.near.length === 0;
      element("find-after", HTMLDivElement).hidden = false;
    }
  };

  /** @param {File | undefined} picture */
  const search = async (picture) => {
    if (!picture) return;
    if (!server.change) return say("To search, open the address that progan printed: it holds a token.");
    running?.abort();
    const mine = (running = new AbortController());
    element("find-after", HTMLDivElement).hidden = true;
    bar.hidden = end.hidden = false;
    bar.removeAttribute("value");
    words.textContent = "Waiting …";
    const model = facts.models[facts.models.length - 1].file;
    const query = new URLSearchParams({ run: server.run, model, label: select.value });
    try {
      const response = await ask(`api/find?${query}`, { method: "POST", body: picture, signal: mine.signal });
      const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) {
        const lines = (rest + part.value).split("\n");
        rest = lines.pop() ?? "";
        lines.forEach((line) => take(JSON.parse(line)));
      }
    } catch (error) {
      if (running === mine) words.textContent = mine.signal.aborted ? "Ended." : error instanceof Error ? error.message : String(error);
    }
    if (running === mine) {
      running = null;
      bar.hidden = end.hidden = true;
    }
  };

  file.addEventListener("change", () => {
    void search(file.files?.[0]);
    file.value = "";
  });
  drop.addEventListener("dragover", (event) => event.preventDefault());
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    void search(event.dataTransfer?.files[0]);
  });
  end.addEventListener("click", () => running?.abort());
  button("find-latent").addEventListener("click", () => save(new Blob([JSON.stringify(latent)], { type: "application/json" }), "latent.json"));
  button("find-picture").addEventListener("click", () => best.toBlob((blob) => blob && save(blob, "found.png")));
  return { show: () => {} };
}
