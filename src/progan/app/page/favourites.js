/** Pictures that the user keeps: wishes in localStorage, made anew when they are shown. */

import { button, element, make, paint } from "./dom.js";
import { checked, inWords, toHash } from "./wish.js";

/**
 * @typedef {import("./engine.js").Wish} Wish
 * @typedef {import("./main.js").App} App
 */

/** @param {App} app */
export function favourites(app) {
  const { facts } = app, key = `progan favourites ${location.pathname.replace(/[^/]*$/, "")}${facts.server?.run ?? ""}`;
  const list = element("kept", HTMLUListElement), none = element("none", HTMLParagraphElement);
  const older = element("older", HTMLParagraphElement);

  /** @returns {(Wish & {model: string})[]} */
  const all = () => {
    try {
      const found = JSON.parse(localStorage.getItem(key) ?? "[]");
      return Array.isArray(found) ? found.filter((each) => each && typeof each === "object") : [];
    } catch {
      return [];
    }
  };
  /**
   * Keeps the list; false where the browser keeps nothing, or has no room.
   * @param {(Wish & {model: string})[]} wishes
   */
  const write = (wishes) => {
    try {
      localStorage.setItem(key, JSON.stringify(wishes));
      return true;
    } catch {
      return false;
    }
  };
  /** @param {Wish & {model: string}} a @param {Wish} b */
  const same = (a, b) => a.model === facts.snapshot && toHash(facts, checked(facts, a)) === toHash(facts, b);

  const panel = {
    /** @param {Wish} wish */
    has: (wish) => all().some((each) => same(each, wish)),

    /**
     * Keeps a picture, or no longer.
     * @param {Wish} wish
     */
    toggle(wish) {
      const wishes = all(), others = wishes.filter((each) => !same(each, wish));
      const keep = others.length === wishes.length;
      const done = write(keep ? [{ ...wish, model: facts.snapshot }, ...wishes] : others);
      app.say(!done ? "This browser keeps nothing for this page: copy a link to the picture instead."
        : keep ? "Kept among the favourites." : "No longer a favourite.");
    },

    async show() {
      const mine = all().filter((each) => each.model === facts.snapshot), others = all().length - mine.length;
      none.hidden = all().length > 0;
      older.hidden = others === 0;
      older.textContent = `${others} more of another version of this generator: it made other pictures.`;
      const turn = app.turn();
      const canvases = mine.map((kept) => {
        const wish = checked(facts, kept), canvas = make("canvas", { width: 1, height: 1 });
        const open = make("button", { className: "picture", type: "button" }, [canvas]);
        open.setAttribute("aria-label", `Open: ${inWords(wish)}, ${wish.resolution} pixels`);
        open.addEventListener("click", () => app.open(wish));
        const remove = make("button", { className: "remove", type: "button", textContent: "×" });
        remove.setAttribute("aria-label", `Remove: ${inWords(wish)}`);
        remove.addEventListener("click", () => {
          panel.toggle(wish);
          void panel.show();
          button("tab-favourites").focus();
        });
        return { wish, canvas, item: make("li", {}, [open, remove]) };
      });
      list.replaceChildren(...canvases.map(({ item }) => item));
      // One resolution after the other, so that each generator is loaded once.
      for (const { wish, canvas } of canvases.sort((a, b) => a.wish.resolution - b.wish.resolution)) {
        const picture = await app.draw(wish, turn);
        if (!picture) return;
        paint(canvas, picture.pixels);
      }
    },
  };
  return panel;
}
