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
  const comparisons = server.comparisons ?? [], choice = make("select", { hidden: comparisons.length < 2 || kind === "data" });
  choice.setAttribute("aria-label", "Comparison");
  for (const name of comparisons) choice.append(make("option", { value: name, textContent: name }));
  place.append(make("div", { className: "bar" }, [choice, words, own]), frame);
  let open = ""; // address of what is shown, or on its way

  const show = async () => {
    const name = choice.value;
    if (kind === "compare" && !name) {
      words.replaceChildren("No comparison here yet. ", make("code", { textContent: "progan compare --data DATASET --out runs/comparison" }), " trains several GANs alike, and says which is better.");
      return;
    }
    const address = kind === "data" ? `api/page/data?${new URLSearchParams({ run: server.run })}`
      : `api/page/compare?${new URLSearchParams({ name })}`;
    if (address === open) return;
    open = address;
    words.textContent = kind === "data" ? "Looking at all images …" : "Opening …";
    let why = "";
    try {
      // It is made now, before the frame asks for it; why it could not be is in the answer to GET only.
      await ask(address, { method: "HEAD" }).catch(() => ask(address));
    } catch (error) {
      why = error instanceof Error ? error.message : String(error);
    }
    if (open !== address) return; // another one was chosen meanwhile
    words.textContent = why;
    frame.hidden = own.hidden = why !== "";
    if (why) open = "";
    else frame.src = own.href = address;
  };
  choice.addEventListener("change", show);
  return { show };
}
