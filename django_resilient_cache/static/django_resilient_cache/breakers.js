'use strict';
// The page refreshes itself: the same page's changing part is fetched and merged into the
// document, element by element, so that focus, open details, selections and the scroll position
// stay as they are. Without this script the page works, with a link to refresh it.
{
    const LONGEST_PAUSE = 30; // seconds between two attempts while the site does not answer
    const PATIENCE = 20; // seconds for one answer

    const live = document.getElementById('rc-live');
    const lost = document.getElementById('rc-lost');
    const pause = document.getElementById('rc-pause');
    let paused = false;
    let failures = 0;
    let timer = null;
    let busy = false;
    let again = false; // asked for while busy

    function merge(old, fresh) {
        for (const { name } of [...old.attributes]) {
            if (!fresh.hasAttribute(name) && !(name === 'open' && old.nodeName === 'DETAILS')) {
                old.removeAttribute(name);
            }
        }
        for (const { name, value } of fresh.attributes) {
            if (old.getAttribute(name) !== value) {
                old.setAttribute(name, value);
            }
        }
        mergeChildren(old, fresh);
    }

    function alike(one, other) {
        return one.nodeName === other.nodeName && (one.id || '') === (other.id || '');
    }

    function mergeChildren(old, fresh) {
        const named = new Map([...old.children].filter((el) => el.id).map((el) => [el.id, el]));
        let place = old.firstChild;
        for (const node of [...fresh.childNodes]) {
            // An element with an id is found wherever it has moved to.
            const known = node.id ? named.get(node.id) : null;
            if (known && known !== place && known.nodeName === node.nodeName) {
                old.insertBefore(known, place);
                place = known;
            }
            if (place && alike(place, node)) {
                if (node.nodeType === Node.ELEMENT_NODE) {
                    if (!(place.hasAttribute('data-keep'))) {
                        merge(place, node);
                    }
                } else if (place.nodeValue !== node.nodeValue) {
                    place.nodeValue = node.nodeValue;
                }
                place = place.nextSibling;
            } else {
                old.insertBefore(document.importNode(node, true), place);
            }
        }
        while (place) {
            const next = place.nextSibling;
            place.remove();
            place = next;
        }
    }

    // What has the focus keeps it; where that is gone, what is nearest to its place gets it.
    function mergeKeepingFocus(fresh) {
        const focused = document.activeElement;
        const around = [];
        if (live.contains(focused)) {
            for (let el = focused; el !== live; el = el.parentElement) {
                around.push(el);
            }
        }
        merge(live, fresh);
        if (!around.length || focused === document.activeElement) {
            return;
        }
        const place = around.find((el) => el.isConnected) || live;
        const next = place === focused ? place : place.querySelector('button, summary, a[href]');
        next?.focus({ preventScroll: true });
    }

    function plan() {
        clearTimeout(timer);
        if (!paused && !document.hidden) {
            const usual = Number(live.dataset.refresh) || 3;
            const wait = failures ? Math.min(usual * 2 ** failures, LONGEST_PAUSE) : usual;
            timer = setTimeout(refresh, wait * 1000);
        }
    }

    function say(text) {
        if (lost.textContent !== text) {
            lost.textContent = text;
        }
    }

    async function refresh() {
        if (busy) {
            again = true;
            return;
        }
        busy = true;
        try {
            const address = new URL(window.location.href);
            address.searchParams.set('fragment', '1');
            address.hash = '';
            address.searchParams.delete('worker');
            for (const { dataset } of live.querySelectorAll('details[open][data-worker]')) {
                address.searchParams.append('worker', dataset.worker);
            }
            const answer = await fetch(address, {
                credentials: 'same-origin',
                signal: AbortSignal.timeout(PATIENCE * 1000),
            });
            const text = await answer.text();
            const fresh = new DOMParser().parseFromString(text, 'text/html');
            const root = fresh.getElementById('rc-live');
            if (answer.redirected || answer.status === 403) {
                failures = 0;
                paused = true;
                say(lost.dataset.out);
            } else if (!answer.ok || !root) {
                throw new Error(answer.statusText);
            } else {
                failures = 0;
                say('');
                mergeKeepingFocus(root);
            }
        } catch {
            failures += 1;
            say(lost.dataset.away);
        } finally {
            busy = false;
            showPause();
            plan();
            if (again && !failures) {
                refresh();
            }
            again = false;
        }
    }

    function showPause() {
        pause.textContent = paused ? pause.dataset.resume : pause.dataset.pause;
    }

    pause.addEventListener('click', () => {
        paused = !paused;
        showPause();
        plan();
    });
    // Of many workers, what they say is on the page only while it is seen.
    live.addEventListener('toggle', (event) => {
        if (event.target.open && event.target.querySelector('.rc-fetch')) {
            refresh();
        }
    }, true);
    document.addEventListener('visibilitychange', () => {
        if (document.hidden || paused) {
            clearTimeout(timer);
        } else {
            refresh();
        }
    });
    showPause();
    pause.hidden = false;
    plan();
}
