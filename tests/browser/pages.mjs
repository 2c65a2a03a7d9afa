// The pages in a real browser, at two widths, in light and dark: nothing overflows, nothing is fetched from elsewhere,
// nothing is refused by the content policy, everything works without JavaScript and with the keyboard alone.
//
// Usage: node pages.mjs http://127.0.0.1:8080 [FOLDER FOR SCREENSHOTS]. Needs chromium; what the pages say is tested in
// Rust, without a browser.

import { mkdirSync } from "node:fs";
import { chromium } from "playwright-core";

const [base, folder] = process.argv.slice(2);
const record = "/records/contact/C-1042";
const pages = {
  records: "/",
  found: "/?q=1042&module=contact&label=",
  record,
  month: `${record}?window=30d`,
  evidence: `${record}/evidence?panel=competitors&key=Airo%20Networks`,
  arabic: "/records/contact/C-2006",
  missing: "/records/contact/nobody",
};
const widths = { desk: 1280, phone: 390 };
const failures = [];
const check = (holds, what) => holds || failures.push(what);

if (folder) mkdirSync(folder, { recursive: true });
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
for (const colorScheme of ["light", "dark"]) {
  for (const [device, width] of Object.entries(widths)) {
    const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme });
    const page = await context.newPage();
    let at = "";
    page.on("request", (r) => check(new URL(r.url()).origin === new URL(base).origin, `${at} fetches ${r.url()}`));
    page.on("console", (m) => check(m.type() !== "error" || /status of 404/.test(m.text()), `${at}: ${m.text()}`));
    page.on("pageerror", (e) => check(false, `${at}: ${e}`));
    for (const [name, path] of Object.entries(pages)) {
      at = `${name} ${device} ${colorScheme}`;
      const answer = await page.goto(base + path, { waitUntil: "load" });
      check(answer.status() === (name === "missing" ? 404 : 200), `${at}: status ${answer.status()}`);
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      check(overflow <= 0, `${at}: ${overflow} pixels too wide`);
      if (folder) await page.screenshot({ path: `${folder}/${name}-${device}-${colorScheme}.png`, fullPage: true });
    }
    await context.close();
  }
}

const plain = await (await browser.newContext({ javaScriptEnabled: false })).newPage();
await plain.goto(base);
await plain.getByLabel("Id").fill("C-1042");
await plain.getByRole("button", { name: "Find" }).click();
await plain.getByRole("link", { name: "C-1042", exact: true }).click();
await plain.waitForURL(`**${record}`);
check(plain.url().endsWith(record), `without JavaScript the search leads to ${plain.url()}`);
check((await plain.locator("section.panel").count()) >= 9, "without JavaScript panels are missing");
await plain.keyboard.press("Tab");
check((await plain.locator(":focus").textContent()) === "Skip to the content", "the first stop is not the skip link");
check(await plain.locator(":focus").isVisible(), "the skip link stays hidden when it has the focus");
await plain.locator("#keywords tbody a").first().click();
await plain.waitForURL("**/evidence?**");
check((await plain.locator(".said mark").count()) > 0, "a keyword does not lead to marked sentences");

await browser.close();
for (const failure of failures) console.error(failure);
console.log(failures.length === 0 ? "pages: all good" : `pages: ${failures.length} failures`);
process.exit(failures.length === 0 ? 0 : 1);
