// Jobs of graphile-worker in a second, as its own documentation makes it fast: a local queue, completion in batches.
//
//     node graphile.mjs URL COUNT
//
// Adds COUNT jobs that do nothing, runs them all, and prints as JSON how many ran and how long that took: from the
// first that began until the database has none left. Adding them is not counted.
import { Logger, makeWorkerUtils, run } from "graphile-worker";
import pg from "pg";

const [url, count] = [process.argv[2], Number(process.argv[3])];
const pool = new pg.Pool({ connectionString: url, max: 10 });
pool.on("error", (error) => { throw error; });
pool.on("connect", (client) => client.on("error", (error) => { throw error; }));
const logger = new Logger(() => () => {});
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const left = async () => (await pool.query("select count(*)::int as n from graphile_worker.jobs")).rows[0].n;

const utils = await makeWorkerUtils({ pgPool: pool, logger });
await utils.migrate();
await pool.query(
  `select graphile_worker.add_jobs(array(
     select json_populate_record(null::graphile_worker.job_spec, json_build_object('identifier', 'noop', 'payload', json_build_object('n', n)))
     from generate_series(1, $1::int) n))`, [count]);
if ((await left()) !== count) throw new Error("not all jobs were added");

let ran = 0;
let began = 0;
const noop = () => {
  if (ran++ === 0) began = performance.now();
};
const runner = await run({
  pgPool: pool,
  logger,
  noHandleSignals: true,
  taskList: { noop },
  preset: { worker: { concurrentJobs: 24, localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 } },
});
while (ran < count) await sleep(5);
while ((await left()) > 0) await sleep(2);
console.log(JSON.stringify({ ran, seconds: (performance.now() - began) / 1000 }));
await runner.stop();
await utils.release();
await pool.end();
