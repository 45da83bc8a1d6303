/** Service worker: keeps the page itself, so that it opens without a network. Large files are kept by download.js. */

const worker = /** @type {any} */ (self);
worker.importScripts("shell.js"); // written by the export: `self.SHELL = {version, files}`
const PREFIX = `progan ${new URL("./", worker.location.href).pathname} `;
const NAME = `${PREFIX}page ${worker.SHELL.version}`;

worker.addEventListener("install", (/** @type {any} */ event) => {
  const requests = worker.SHELL.files.map((/** @type {string} */ file) => new Request(file, { cache: "reload" }));
  event.waitUntil(caches.open(NAME).then((cache) => cache.addAll(requests)));
});

worker.addEventListener("activate", (/** @type {any} */ event) => {
  const clean = async () => {
    for (const name of await caches.keys()) {
      if (name.startsWith(`${PREFIX}page `) && name !== NAME) await caches.delete(name);
    }
    await worker.clients.claim();
  };
  event.waitUntil(clean());
});

worker.addEventListener("message", (/** @type {any} */ event) => {
  if (event.data === "take over") worker.skipWaiting();
});

worker.addEventListener("fetch", (/** @type {any} */ event) => {
  const { request } = event, url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== worker.location.origin) return;
  const answer = async () => {
    const cache = await caches.open(NAME), page = request.mode === "navigate";
    const kept = await cache.match(page ? "./" : request, { ignoreSearch: true });
    // Only the page itself is answered from what was kept, not a file beside it that somebody opens.
    return kept && (!page || url.pathname.endsWith("/") || url.pathname.endsWith("/index.html")) ? kept : fetch(request);
  };
  event.respondWith(answer());
});
