-- queue_state: how many generations wait, and for how long, tenant by tenant. Writes nothing.
-- KEYS waiting, delayed, running, open, dead
-- ARGV after (a tenant; '-': begin with the first), most tenants
-- Returns {now, waiting, delayed, running, open, dead, {tenant, waiting, ms of the oldest job} ..., ...}; one tenant more
-- than ARGV[2] shows that there is another page.
-- The walk skips from one tenant to the next. The oldest job is that of the tenant's CHECKED first ones: priorities
-- (see turns) may put an older one behind them.
-- @include clock
-- @include turns
local CHECKED = 10
local from = ARGV[1] == '-' and '-' or '(' .. ARGV[1] .. '!'
local tenants = {}
while #tenants <= tonumber(ARGV[2]) do
  local first = redis.call('ZRANGEBYLEX', KEYS[1], from, '+', 'LIMIT', 0, 1)[1]
  if not first then break end
  local tenant = string.match(first, '^([^ ]*) ')
  local oldest_ms
  for _, member in ipairs(oldest_of(KEYS[1], tenant, CHECKED)) do
    local ms = tonumber(string.match(entry_of(member), '^(%d+)'))
    if not oldest_ms or ms < oldest_ms then oldest_ms = ms end
  end
  tenants[#tenants + 1] = {tenant, count_of(KEYS[1], tenant), oldest_ms}
  from = '(' .. tenant .. '!'
end
local reply = {read_clock()}
for at = 1, 4 do reply[at + 1] = redis.call('ZCARD', KEYS[at]) end
reply[6] = redis.call('XLEN', KEYS[5])
for _, tenant in ipairs(tenants) do reply[#reply + 1] = tenant end
return reply
