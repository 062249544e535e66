-- include: base fenced activities instances
-- Suspend a running instance, whoever holds it. ARGV: nonce, again, source, instance, report, life
-- (see `is_meant`). Returns an Effect.

local before = answered(ARGV[1], ARGV[2])
if before then
  return before[1]
end
local id = ARGV[4]
local row = redis.call(
  'HMGET', P .. 'i:' .. id, 'status', 'seq', 'queue', 'priority', 'deaths', 'life', 'worker'
)
if not row[1] then
  return 'not found'
end
if not is_meant(row[6], ARGV[6]) or not is_open(row[1]) then
  return 'finished'
end
if row[1] == 'suspended' then
  return 'unchanged'
end
set_status(id, row[2], row[3], 'running', 'suspended')
redis.call(
  'HSET', P .. 'i:' .. id, 'status', 'suspended', 'outcome', ARGV[5], 'worker', '', 'sticky', ''
)
if row[7] and row[7] ~= '' then
  zrem('held:' .. row[7], id)
  if is_suspect(row[5]) then
    redis.call('HSET', P .. 'i:' .. id, 'deaths', math.max((tonumber(row[5]) or 0) - 1, 0))
  end
else
  leave_place(id, row[3], row[4], is_suspect(row[5]))
end
flush()
publish(ARGV[3])
return answer(ARGV[1], { 'done' })[1]
