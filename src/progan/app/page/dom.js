/** Helpers for the elements of the page. */

/**
 * The element of an id.
 * @template {HTMLElement} T
 * @param {string} id
 * @param {{new (): T}} kind
 * @returns {T}
 */
export function element(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`#${id} is missing`);
  return found;
}

/** @param {string} id */
export const button = (id) => element(id, HTMLButtonElement);

/** @param {string} id */
export const input = (id) => element(id, HTMLInputElement);

/**
 * A new element.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Partial<HTMLElementTagNameMap[K]>} [properties]
 * @param {(Node | string)[]} [children]
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(tag, properties = {}, children = []) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/**
 * A row of radio buttons, drawn as chips.
 * @param {HTMLElement} place
 * @param {string} name
 * @param {{value: string, text: string}[]} choices
 * @param {(value: string) => void} chosen
 * @returns {(value: string) => void} Shows a choice as made.
 */
export function chips(place, name, choices, chosen) {
  const radios = choices.map(({ value }) => make("input", { type: "radio", name, value }));
  place.replaceChildren(...radios.map((radio, i) => make("label", { className: "chip" }, [radio, make("span", { textContent: choices[i].text })])));
  for (const radio of radios) radio.addEventListener("change", () => chosen(radio.value));
  return (value) => {
    for (const radio of radios) radio.checked = radio.value === value;
  };
}

/**
 * Draws a picture on a canvas of its size.
 * @param {HTMLCanvasElement} canvas
 * @param {ImageData} pixels
 */
export function paint(canvas, pixels) {
  if (canvas.width !== pixels.width) canvas.width = canvas.height = pixels.width;
  canvas.classList.toggle("coarse", pixels.width < 256);
  canvas.getContext("2d")?.putImageData(pixels, 0, 0);
  canvas.dataset.ready = "yes";
}
