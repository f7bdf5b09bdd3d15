"""The server's pages, in a browser without a window."""

import json
import shutil

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions as until
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE = 60
SENTENCE = "A lovely film, and I would watch it again tomorrow."
DESK = {"width": 1100, "height": 1400, "deviceScaleFactor": 1, "mobile": False}
PHONE = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}


def start(profile):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--no-first-run",
        "--window-size=1100,900",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    return webdriver.Chrome(options=options, service=service)


class Page:
    """A page that is open, and what is to be seen on it."""

    def __init__(self, driver, screenshots):
        self.driver = driver
        self.screenshots = screenshots

    def wait(self, condition, message):
        return WebDriverWait(self.driver, PATIENCE).until(condition, message)

    def find(self, selector):
        condition = until.visibility_of_element_located((By.CSS_SELECTOR, selector))
        return self.wait(condition, f"there is no {selector}")

    def click(self, selector):
        condition = until.element_to_be_clickable((By.CSS_SELECTOR, selector))
        self.scroll_to(selector, "center")
        self.wait(condition, f"there is no {selector} to click").click()

    def scroll_to(self, selector, block):
        script = "arguments[0].scrollIntoView({block: arguments[1], behavior: 'instant'})"
        self.driver.execute_script(script, self.find(selector), block)

    def emulate(self, method, **arguments):
        self.driver.execute_cdp_cmd(f"Emulation.{method}", arguments)

    def keep(self, name):
        self.driver.save_screenshot(str(self.screenshots / f"{name}.png"))


def ask_on_the_page(page, base):
    """One types a sentence, and sees how likely each label is."""
    page.driver.get(f"{base}/")
    page.find("#text").send_keys(SENTENCE)
    page.click("#send")
    page.find("#answer .bar")
    rows = page.driver.find_elements(By.CSS_SELECTOR, "#answer .row")
    shown = [row.text.split("\n") for row in rows]
    labels = [label for label, _ in shown]
    percents = [float(percent.removesuffix(" %")) for _, percent in shown]
    assert labels == ["negative", "positive"], f"the page shows {shown}"
    assert abs(sum(percents) - 100) < 0.11, f"the page shows {shown}"
    page.keep("page")
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    page.emulate("setEmulatedMedia", features=dark)
    page.keep("page-dark")
    page.emulate("setEmulatedMedia", features=[])
    page.emulate("setDeviceMetricsOverride", **PHONE)
    page.keep("page-phone")
    page.emulate("clearDeviceMetricsOverride")
    page.find("#text").clear()
    page.find("#text").send_keys("   ")
    page.click("#send")
    page.find("#answer.error")
    page.keep("page-error")


def try_it_out(page, base):
    """The documentation asks the server, and shows what it answers."""
    page.driver.get(f"{base}/docs/")
    page.emulate("setDeviceMetricsOverride", **DESK)
    for operation, path in (("post", "/inference"), ("get", "/predict")):
        block = f'.opblock-{operation}:has([data-path="{path}"])'
        page.click(f"{block} .opblock-summary-control")
        page.click(f"{block} .try-out__btn")
        page.click(f"{block} .execute")
        answer = f"{block} .live-responses-table .response"
        status = page.find(f"{answer} .response-col_status").text
        assert status == "200", f"{path} was answered with {status}"
        body = page.find(f"{answer} .highlight-code").text
        assert "positive" in body, f"{path} was answered with {body}"
        page.scroll_to(block, "start")
        page.keep(f"docs-{operation}")


def check_network(driver, base):
    """Nothing was loaded, or tried to be loaded, from elsewhere; nothing went wrong in a script."""
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            url = message["params"]["request"]["url"]
            known = url.startswith((f"{base}/", "data:", "blob:", "chrome:"))
            assert known, f"a page asks for {url}"
    for entry in driver.get_log("browser"):
        assert entry["level"] != "SEVERE", f"a page complains: {entry['message']}"


def try_in_browser(base, profile, screenshots):
    driver = start(profile)
    try:
        page = Page(driver, screenshots)
        ask_on_the_page(page, base)
        try_it_out(page, base)
        check_network(driver, base)
    finally:
        driver.quit()
    print("the page and the documentation work in a browser, without a network", flush=True)
