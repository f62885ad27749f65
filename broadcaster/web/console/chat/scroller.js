/** Keeps the end of the thread in view, unless the reader has scrolled up. */

import { byId, show } from "../dom.js";

const NEAR_PX = 48;

export class Scroller {
  constructor() {
    this.root = byId("scroll");
    this.latest = byId("latest");
    this.isFollowing = true;
    this.top = 0;
    this.latest.addEventListener("click", () => this.follow());
    this.root.addEventListener("scroll", () => this.note(), { passive: true });
    // What is drawn later than the text, such as an unfolded detail, moves the end as well.
    new ResizeObserver(() => this.update()).observe(byId("thread"));
  }

  /** To the end, and stay there. */
  follow() {
    this.isFollowing = true;
    this.update();
  }

  toTop() {
    this.isFollowing = false;
    this.root.scrollTop = 0;
  }

  update() {
    if (this.isFollowing && byId("operate").hidden && !byId("thread").hidden) this.root.scrollTop = this.root.scrollHeight;
    this.note();
  }

  /** Scrolling up stops the following, text that was drawn below does not; scrolling back to the end resumes it. */
  note() {
    const { scrollTop, scrollHeight, clientHeight } = this.root;
    if (scrollHeight - scrollTop - clientHeight < NEAR_PX) this.isFollowing = true;
    else if (scrollTop < this.top) this.isFollowing = false;
    this.top = scrollTop;
    show(this.latest, !this.isFollowing && !byId("thread").hidden);
  }
}
