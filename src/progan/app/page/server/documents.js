/** Panels that show a page made elsewhere: a comparison, or the images of a run. It has no rights in this one. */

import { make } from "../dom.js";
import { ask } from "./engine.js";

/**
 * @param {import("./panels.js").Given} given
 * @param {HTMLElement} place
 * @param {"compare" | "data"} kind
 * @returns {import("../tabs.js").Panel}
 */
export function documentPanel({ server }, place, kind) {
  const frame = make("iframe", { title: kind === "data" ? "Images of the run" : "Comparison", hidden: true });
  frame.setAttribute("sandbox", "allow-scripts");
  const words = make("p", { className: "hint" });
  words.setAttribute("role", "status");
  const own = make("a", { textContent: "Open by itself", target: "_blank", rel: "noopener", hidden: true });
  const choice = make("select", { hidden: server.comparisons.length < 2 || kind === "data" });
  choice.setAttribute("aria-label", "Comparison");
  for (const name of server.comparisons) choice.append(make("option", { value: name, textContent: name }));
  place.append(make("div", { className: "bar" }, [choice, words, own]), frame);
  let open = "";

  const show = async () => {
    const name = choice.value;
    if (kind === "compare" && !name) {
      words.replaceChildren("No comparison here yet. ", make("code", { textContent: "progan compare --data DATASET --out runs/comparison" }), " trains several GANs alike, and says which is better.");
      return;
    }
    const address = kind === "data" ? `api/page/data?${new URLSearchParams({ run: server.run })}`
      : `api/page/compare?${new URLSearchParams({ name })}`;
    if (address === open) return;
    words.textContent = kind === "data" ? "Looking at all images …" : "Opening …";
    try {
      await ask(address, { method: "HEAD" }); // it is made now, or an error says why not
      open = frame.src = own.href = address;
      frame.hidden = own.hidden = false;
      words.textContent = "";
    } catch {
      try {
        await ask(address);
      } catch (error) {
        frame.hidden = own.hidden = true;
        words.textContent = error instanceof Error ? error.message : String(error);
      }
    }
  };
  choice.addEventListener("change", show);
  return { show };
}
