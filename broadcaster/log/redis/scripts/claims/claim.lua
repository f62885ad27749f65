-- claim: grant a worker the next attempt of a generation, or end the generation when no attempt may follow.
-- KEYS log, meta, lease, live channel
-- ARGV by name: worker, lease_ms, live_ttl_ms, version (of the format),
--      may_take_over (1: the caller has seen Redis answer for one lease), answered_ms (for how long it has, since the
--      break), max_attempts, queue_timeout_ms, backoff_ms, max_backoff_ms, jitter (a factor of the back-off), nonce ('':
--      none; it identifies this claim and its repetitions), usage ('': none, '?': not known yet; JSON written before the
--      end, in place of the worker's), abort, worker_lost, attempts_spent, queue_timeout, state_lost (terminal events, as
--      JSON)
-- Returns {code, epoch, last seq, attempt, why, wait_ms}.
-- code: 1 granted, 2 ended here, 0 over already, -1 another worker has the lease, -2 the lease is missing or the queue
-- time-out is over, but the caller may not judge that yet, -3 unknown, -6 the next attempt begins in wait_ms at the
-- earliest, -7 it is to be ended here: claim it once more, with its usage.
-- why it ended: 1 stopped, 2 worker lost, 3 attempts spent (also with code 0: it is a dead letter), 4 queue timeout,
-- 5 state lost, 6 requested (end_stream).
-- The second attempt begins at once. From the second lost worker on the next attempt waits: the first caller that finds the
-- loss stores retry_ms, and nothing else changes, so a worker that comes back meanwhile continues (renew removes retry_ms).
-- An attempt that was handed back is no loss. One whose provider broke off (next_attempt) counts, but causes no wait.
-- The first attempt of a generation that waits and is older than the break of Redis has an `attempt` entry as well: its
-- grant may be what was lost, and viewers may have seen what was written under it.
-- A repeated claim is granted the same epoch (claimed_as). on_worker_loss `fail` concerns an attempt that wrote something.
-- @include ending
local WORKER_LOST, QUEUE_TIMEOUT = 2, 4
-- How long the next attempt still has to wait.
local function left_to_wait(losses)
  if losses < 2 or tonumber(arg.backoff_ms) == 0 then return 0 end
  local retry_ms = tonumber(meta.retry_ms)
  local most_ms = math.min(tonumber(arg.max_backoff_ms), tonumber(arg.backoff_ms) * 2 ^ (losses - 2))
  -- A time further ahead than any wait is from before a step back of the clock.
  if not retry_ms or retry_ms - now_ms > math.ceil(most_ms) then
    retry_ms = now_ms + math.ceil(most_ms * tonumber(arg.jitter))
    redis.call('HSET', KEYS[2], 'retry_ms', digits(retry_ms))
  end
  return math.max(0, retry_ms - now_ms)
end

if closed or is_over(meta.status) then return refuse_over() end
local granted = meta.epoch or ''
local is_repeated = arg.nonce ~= '' and meta.claimed_as == arg.nonce .. ' ' .. granted and is_leasable(granted)
if is_repeated and (attempts < 2 or last_epoch == tonumber(granted)) then return repeat_grant() end
local answer = reply_unless_idle()
if answer then return answer end
if not meta.started_ms and now_ms - tonumber(meta.created_ms or now_ms) > tonumber(arg.queue_timeout_ms) then
  if arg.may_take_over ~= '1' then return refuse(-2) end -- the clock may have stepped
  return finish(arg.queue_timeout, QUEUE_TIMEOUT)
end
local losses = attempts - tonumber(meta.handed_back or 0)
if losses >= tonumber(arg.max_attempts) then return finish(arg.attempts_spent, ATTEMPTS_SPENT) end
local wrote = newest_event and not string.match(newest_event, '^{"type":"attempt"')
if wrote and meta.on_worker_loss == 'fail' then return finish(arg.worker_lost, WORKER_LOST) end
local wait_ms = meta.status == 'running' and left_to_wait(losses - tonumber(meta.broken_off or 0)) or 0
if wait_ms > 0 then return refuse(-6, wait_ms) end
attempts = attempts + 1
local may_have_begun = meta.status == 'queued' and is_older
answer = grant(attempts >= 2 or may_have_begun, attempts < 2 and 'log_lost')
if arg.nonce ~= '' then redis.call('HSET', KEYS[2], 'claimed_as', arg.nonce .. ' ' .. digits(epoch)) end
return answer
