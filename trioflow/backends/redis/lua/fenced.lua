-- Included by what clients call to change something, and where workers register: all of it is refused
-- while the store is closed, see moving.lua. What workers do needs no look, since none has a row then.

local fence_text = redis.call('HGET', P .. 'fence', 'text')
if fence_text then
  return redis.error_reply('FENCED ' .. fence_text)
end
