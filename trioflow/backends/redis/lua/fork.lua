-- include: base fenced activities instances sharing ending beginning
-- Create an instance with a history. ARGV: nonce, again, source, new instances (one), what it begins with.
-- Returns 1, or 0 if there is one of that id.

local before = answered(ARGV[1], ARGV[2])
if before then
  return before[1]
end
local new, begin = cmsgpack.unpack(ARGV[4])[1], cmsgpack.unpack(ARGV[5])
if not create_one(new, false) then
  return answer(ARGV[1], { 0 })[1]
end
redis.call(
  'HSET', P .. 'i:' .. new.id, 'turns', #begin.turns, 'events', begin.events,
  'carried', begin.carried or '', 'wake_at', begin.wake_at and exact(begin.wake_at) or ''
)
begin_execution(new.id, 1, new.life or '', begin, {})
publish(ARGV[3])
return answer(ARGV[1], { 1 })[1]
