// The test for the eye: `secret` has the names of the origins, and the origin of every image. An image's button is
// pressed while it looks real; the key shows how many of each origin were.
(secret => {
  const section = document.currentScript.parentElement;
  const tiles = [...section.querySelectorAll('.tile')];
  tiles.forEach(tile => tile.onclick = () =>
    tile.setAttribute('aria-pressed', tile.getAttribute('aria-pressed') !== 'true'));
  section.querySelector('.reveal').onclick = event => {
    const votes = secret.names.map(() => [0, 0]);
    tiles.forEach((tile, i) => {
      const origin = secret.key[i];
      votes[origin][0] += tile.getAttribute('aria-pressed') === 'true';
      votes[origin][1] += 1;
      tile.disabled = true;
      tile.insertAdjacentHTML('beforeend', `<small>${secret.names[origin]}</small>`);
    });
    const rows = secret.names.map((name, i) =>
      `<tr><td>${name}</td><td>${votes[i][0]} of ${votes[i][1]}</td></tr>`).join('');
    const key = section.querySelector('.key');
    key.innerHTML = `<table><thead><tr><th>origin</th><th>looked real</th></tr></thead><tbody>${rows}</tbody></table>`;
    key.hidden = false;
    event.target.disabled = true;
  };
})
