// A line at the moment under the pointer, in all drawings at once, with the values there.
const drawn = 'http://www.w3.org/2000/svg';
const charts = [...document.querySelectorAll('svg[data-duration]')].map(svg => {
  const number = name => Number(svg.dataset[name]);
  const add = (name, style) => {
    const element = svg.appendChild(document.createElementNS(drawn, name));
    element.setAttribute('class', style);
    element.style.display = 'none';
    return element;
  };
  const box = svg.viewBox.baseVal;
  const left = number('left'), right = number('right');
  const top = number('top') || 0, bottom = number('bottom') || box.height;
  const limit = number('limit');
  const lines = [...svg.querySelectorAll('.line')].map(line =>
    [...line.getAttribute('d').matchAll(/([\d.]+),([\d.]+)/g)].map(m => [+m[1], +m[2]]));
  const cursor = add('line', 'cursor'), readout = add('text', 'readout');
  const show = at => {
    const x = left + at * (right - left);
    for (const element of [cursor, readout]) element.style.display = '';
    for (const [name, value] of [['x1', x], ['x2', x], ['y1', top], ['y2', bottom]])
      cursor.setAttribute(name, value);
    const values = lines.map(points => {
      const near = points.filter(p => Math.abs(p[0] - x) < 4);
      if (!near.length) return '–';
      const [, y] = near.reduce((a, b) => Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a);
      const value = limit * (bottom - y) / (bottom - top);
      return (y <= top ? '≥ ' : '') + value.toFixed(limit < 20 ? 1 : 0);
    });
    const end = x > (left + right) / 2;
    readout.textContent = lines.length ? values.join(' · ')
      : (at * number('duration')).toFixed(2) + ' s';
    readout.setAttribute('text-anchor', end ? 'end' : 'start');
    readout.setAttribute('x', x + (end ? -5 : 5));
    readout.setAttribute('y', lines.length ? top + 8 : bottom - 18);
  };
  const hide = () => [cursor, readout].forEach(element => element.style.display = 'none');
  svg.addEventListener('pointermove', event => {
    const place = svg.getBoundingClientRect();
    const x = (event.clientX - place.left) / place.width * box.width;
    const at = (x - left) / (right - left);
    for (const chart of charts) at < 0 || at > 1 ? chart.hide() : chart.show(at);
  });
  svg.addEventListener('pointerleave', () => charts.forEach(chart => chart.hide()));
  return { show, hide };
});
// Paper cannot be unfolded.
addEventListener('beforeprint', () =>
  document.querySelectorAll('details').forEach(details => details.open = true));
