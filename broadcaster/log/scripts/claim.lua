-- claim: grant the right to write a stream under a new epoch, or end the stream when nobody may run it any more.
-- The grant is the fence: from this step on every append under an older epoch is refused.
-- KEYS log, meta, lease, live channel
-- ARGV worker, lease_ms, max_attempts, live_ttl_ms, queue_timeout_ms, format version, may_take_over (0|1),
--      intent (run | end | rebase), epoch held (rebase only),
--      abort JSON, worker lost JSON, attempts spent JSON, queue timeout JSON, state lost JSON, JSON to end with (end only),
--      backoff_ms, most backoff_ms, jitter (what the back-off is multiplied with),
--      ms for which Redis has answered the caller since it broke,
--      nonce ('' for none): what this claim and its repetitions are known by,
--      usage JSON ('' for none, '?': to be asked for): what is known of an answer whose worker cannot say it any more
-- Returns {code, epoch, last seq, attempt, why, wait_ms}: 1 granted, 2 ended here, 0 over already, -1 leased by another,
-- -2 its lease is missing or it has waited too long, but that may not be judged yet, -3 unknown, -5 nothing to end (intent end without JSON and
-- without a stop), -6 it waits for its next attempt, for another wait_ms, -7 to be ended here: ask once more, with its usage.
-- why it was ended: 1 stopped, 2 worker lost, 3 attempts spent (also of one that is over already: it is a dead letter),
-- 4 queue timeout, 5 state lost, 6 asked for.
-- The second attempt begins at once. From the second loss on the next one waits: retry_ms is written down by whoever finds
-- the loss, and nothing else changes: a worker that comes back in that time goes on (and renew takes retry_ms away). What
-- was handed back is no loss; what a provider broke off (see again) counts as an attempt, but makes nobody wait.
-- A claim to run whose answer was lost is repeated under its nonce, and is granted the same epoch once more (claimed_as).
-- A lease with more left of it than its length (leased_ms) is cut to that length, whoever finds it.
-- on_worker_loss fail is for an attempt that wrote something: one that wrote nothing may begin again anywhere.
-- A rebase counts no attempt. Repeated for want of its answer (rebased_from), it is granted the same epoch once more.
-- @include tail
local META_OUTLIVES_LOG_MS = 3600000
local ATTEMPTS_SPENT = 3
local worker, lease_ms, intent = ARGV[1], tonumber(ARGV[2]), ARGV[8]
local live_ttl_ms, version, nonce, usage = tonumber(ARGV[4]), ARGV[6], ARGV[20], ARGV[21]

local last_epoch, last_seq, bytes, closed, event = read_tail(KEYS[1])
local wrote = event and not string.match(event, '^{"type":"attempt"')

local meta = redis.call('HMGET', KEYS[2], 'epoch', 'attempts', 'status', 'stop', 'on_worker_loss', 'retention_ms',
  'created_ms', 'retry_ms', 'handed_back', 'dead', 'started_ms', 'broken_off', 'rebased_from', 'claimed_as', 'leased_ms')
local status = meta[3]
local attempts = tonumber(meta[2] or 0)
local losses = attempts - tonumber(meta[9] or 0)
local held = redis.call('GET', KEYS[3])
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local epoch = math.max(now_ms, tonumber(meta[1] or 0) + 1, last_epoch + 1)
local id = function(seq) return string.format('%.0f-%.0f', epoch, seq) end

local function refuse(code, wait_ms) return {code, last_epoch, last_seq, attempts, 0, wait_ms or 0} end
local function write(json)
  last_seq = last_seq + 1
  redis.call('XADD', KEYS[1], id(last_seq), 'e', json, 'v', version, 'b', bytes + #json)
end
local function push(json)
  redis.call('SPUBLISH', KEYS[4], string.format('1 %.0f %.0f 1\n%s', epoch, last_seq, json))
end
-- How long the next attempt waits still; the first who asks after a loss decides it.
local function left_to_wait(losses)
  if losses < 2 or tonumber(ARGV[16]) == 0 then return 0 end
  local retry_ms = tonumber(meta[8])
  local most_ms = math.min(tonumber(ARGV[17]), tonumber(ARGV[16]) * 2 ^ (losses - 2))
  -- One that lies further ahead than any wait is from before a step back of the clock.
  if not retry_ms or retry_ms - now_ms > math.ceil(most_ms) then
    retry_ms = now_ms + math.ceil(most_ms * tonumber(ARGV[18]))
    redis.call('HSET', KEYS[2], 'retry_ms', string.format('%.0f', retry_ms))
  end
  return math.max(0, retry_ms - now_ms)
end
local function finish(json, why)
  if usage == '?' and last_seq > 0 then return refuse(-7) end
  if why == ATTEMPTS_SPENT then redis.call('HSET', KEYS[2], 'dead', 'attempts_spent') end
  local kind = string.match(json, '^{"type":"([%w-]+)"')
  local ended = kind == 'abort' and 'aborted' or kind == 'finish' and 'finished' or 'failed'
  local retention_ms = tonumber(meta[6] or live_ttl_ms)
  if usage ~= '' and usage ~= '?' then
    write(usage)
    push(usage)
  end
  write(json)
  redis.call('HSET', KEYS[2], 'epoch', string.format('%.0f', epoch), 'status', ended,
    'ended_ms', string.format('%.0f', now_ms), 'terminal', json, 'terminal_id', id(last_seq))
  redis.call('DEL', KEYS[3])
  redis.call('PEXPIRE', KEYS[1], retention_ms)
  redis.call('PEXPIRE', KEYS[2], retention_ms + META_OUTLIVES_LOG_MS)
  push(json)
  return {2, epoch, last_seq, attempts, why, 0}
end

if closed or status == 'finished' or status == 'failed' or status == 'aborted' then
  return {0, last_epoch, last_seq, attempts, meta[10] and ATTEMPTS_SPENT or 0, 0}
end
if intent == 'rebase' then
  local rebased = meta[13] == ARGV[9] and status == 'running' and (not held or held == worker .. ':' .. meta[1])
  if rebased and tonumber(meta[1]) == last_epoch then
    redis.call('SET', KEYS[3], worker .. ':' .. meta[1], 'PX', lease_ms)
    return {1, last_epoch, last_seq, attempts, 0, 0}
  end
  local mine = rebased or held == worker .. ':' .. ARGV[9] or (not held and meta[1] == ARGV[9])
  if not mine then return refuse(-1) end
else
  local granted = meta[1] or ''
  local is_repeated = nonce ~= '' and meta[14] == nonce .. ' ' .. granted and (not held or held == worker .. ':' .. granted)
  if is_repeated and (attempts < 2 or last_epoch == tonumber(granted)) then
    redis.call('SET', KEYS[3], worker .. ':' .. granted, 'PX', lease_ms)
    return {1, tonumber(granted), last_seq, attempts, 0, 0}
  end
  if held then
    -- More is left of it than it is long: the clock has stepped back since it was renewed.
    local length_ms = tonumber(meta[15])
    if length_ms and redis.call('PTTL', KEYS[3]) > length_ms then redis.call('PEXPIRE', KEYS[3], length_ms) end
    return refuse(-1)
  end
  if not status then
    if last_seq == 0 then return refuse(-3) end
    if ARGV[7] == '0' then return refuse(-2) end
    return finish(ARGV[14], 5)
  end
  if status == 'running' and ARGV[7] == '0' then return refuse(-2) end
  -- It was there before Redis broke: its grant may be what was lost, and its worker has one lease to say so.
  local is_older = now_ms - tonumber(meta[7] or now_ms) > tonumber(ARGV[19])
  if status == 'queued' and ARGV[7] == '0' and is_older then return refuse(-2) end
  if meta[4] then return finish((string.gsub(ARGV[10], 'stopped', meta[4], 1)), 1) end
  if intent == 'end' then
    if ARGV[15] == '' then return refuse(-5) end
    return finish(ARGV[15], 6)
  end
  if not meta[11] and now_ms - tonumber(meta[7] or now_ms) > tonumber(ARGV[5]) then
    if ARGV[7] ~= '1' then return refuse(-2) end -- the clock may have stepped
    return finish(ARGV[13], 4)
  end
  if losses >= tonumber(ARGV[3]) then return finish(ARGV[12], ATTEMPTS_SPENT) end
  if wrote and meta[5] == 'fail' then return finish(ARGV[11], 2) end
  local wait_ms = status == 'running' and left_to_wait(losses - tonumber(meta[12] or 0)) or 0
  if wait_ms > 0 then return refuse(-6, wait_ms) end
  attempts = attempts + 1
end

redis.call('SET', KEYS[3], worker .. ':' .. string.format('%.0f', epoch), 'PX', lease_ms)
redis.call('HSET', KEYS[2], 'epoch', string.format('%.0f', epoch), 'attempts', attempts, 'status', 'running',
  'worker', worker, 'leased_ms', lease_ms)
redis.call('HDEL', KEYS[2], 'retry_ms', 'broken', 'rebased_from')
if nonce ~= '' then redis.call('HSET', KEYS[2], 'claimed_as', nonce .. ' ' .. string.format('%.0f', epoch)) end
if intent == 'rebase' then redis.call('HSET', KEYS[2], 'rebased_from', ARGV[9]) end
redis.call('HSETNX', KEYS[2], 'started_ms', string.format('%.0f', now_ms))
redis.call('PEXPIRE', KEYS[2], live_ttl_ms + META_OUTLIVES_LOG_MS)
if attempts >= 2 or intent == 'rebase' then
  local json = string.format('{"type":"attempt","attempt":%d}', attempts)
  redis.call('HSET', KEYS[2], 'void_seq', last_seq, 'void_bytes', bytes)
  write(json)
  redis.call('PEXPIRE', KEYS[1], live_ttl_ms)
  push(json)
end
return {1, epoch, last_seq, attempts, 0, 0}
