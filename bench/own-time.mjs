/**
 * Time this process was given: the smaller of what the clock on the wall shows and what its threads used. On a machine
 * that does nothing else it is the wall's time; on a busy one the others' share is left out. Microseconds.
 */
export function startClock() {
  const before = process.cpuUsage();
  return { wall: performance.now(), used: before.user + before.system };
}

/** Microseconds since `startClock`. */
export function elapsed({ wall, used }) {
  const onWall = (performance.now() - wall) * 1000;
  const after = process.cpuUsage();
  return Math.min(onWall, after.user + after.system - used);
}
