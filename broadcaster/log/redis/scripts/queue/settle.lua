-- settle: an attempt is over; take its job out of the queue, and its generation where the outcome puts it.
-- KEYS ready (the stream the job came from), open, delayed, dead, ready:hi, waiting, turns, running, tenant of this
--      generation while it is delayed
-- ARGV group, job entry id, generation id, outcome (done | drop | requeue | dead), delay_ms, dead letters kept, reason,
--      tenant of the job
-- Returns 1 the job was there, 0 it was gone already.
-- done: leaves the open index. drop: only this job goes (another one runs the generation). requeue: it waits delay_ms for
-- the next attempt (0: it is next, ahead of those that have not begun), once: a call that is sent a second time, because
-- its reply was lost, finds the job gone and the generation open, and changes nothing. dead: it is kept among the dead letters, by the
-- call that takes it out of the open index, so that it has one letter however often it is settled.
-- @include clock
-- @include turns
local LETTERS_CHECKED = 100
local LATEST_PROMOTION_MS = 3600000
local function has_letter()
  for _, entry in ipairs(redis.call('XREVRANGE', KEYS[4], '+', '-', 'COUNT', LETTERS_CHECKED)) do
    if entry[2][2] == ARGV[3] then return true end
  end
  return false
end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
local there = redis.call('XDEL', KEYS[1], ARGV[2])
redis.call('ZREM', KEYS[8], member_of(ARGV[8], ARGV[2]))
rejoin_turns(KEYS[7], KEYS[6], ARGV[8])
if ARGV[4] == 'requeue' then
  -- What waits without a job gets one from the sweep.
  if there == 0 and redis.call('ZSCORE', KEYS[2], ARGV[3]) then return there end
  local delay_ms = tonumber(ARGV[5])
  if delay_ms > 0 then
    local due = read_clock() + delay_ms
    redis.call('ZADD', KEYS[3], due, ARGV[3])
    if ARGV[8] ~= '' then redis.call('SET', KEYS[9], ARGV[8], 'PX', digits(delay_ms + LATEST_PROMOTION_MS)) end
  else
    local entry = redis.call('XADD', KEYS[5], '*', 'id', ARGV[3], 'tenant', ARGV[8])
    redis.call('ZADD', KEYS[2], tonumber(string.match(entry, '^(%d+)')), ARGV[3])
  end
elseif ARGV[4] ~= 'drop' then
  local was_open = redis.call('ZREM', KEYS[2], ARGV[3])
  redis.call('ZREM', KEYS[3], ARGV[3])
  -- A sweep that read it before may have put it into the open index once more: the letters are checked, too.
  if ARGV[4] == 'dead' and was_open == 1 and not has_letter() then
    redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[6], '*', 'id', ARGV[3], 'reason', ARGV[7])
  end
end
return there
