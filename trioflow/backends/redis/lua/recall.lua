-- include: base activities instances
-- Give a worker again what it holds. ARGV: nonce, again, source, worker, activities that it knows.

local worker = ARGV[4]
local held = redis.call('ZRANGEBYSCORE', P .. 'held:' .. worker, '(' .. exact(now), '+inf')
for _, id in ipairs(held) do
  zadd('held:' .. worker, now, id)
end
local known = {}
for _, key in ipairs(cmsgpack.unpack(ARGV[5])) do
  known[token_of(key.instance, key.execution, key.command, key.life)] = true
end
local unknown = {}
for _, token in ipairs(redis.call('SMEMBERS', P .. 'running:' .. worker)) do
  if not known[token] then
    unknown[#unknown + 1] = token
  end
end
flush()
give_back_all(worker, unknown)
flush()
if #held + #unknown > 0 then
  publish(ARGV[3])
end
return 1
